package main

// countTask asks any worker to count one file.
type countTask struct {
	File int    // its number in the coordinator's list
	Path string // where it is
}

func (countTask) Kind() string { return "wordcount.count" }

// taskBegun tells the coordinator what a worker has in hand. For a first
// delivery it is sent at most once: nothing rests on it but the choice of the
// moment to kill. For a later one it is stored: it shows that work has moved.
type taskBegun struct{ File, Attempt int }

func (taskBegun) Kind() string { return "wordcount.begun" }

// taskCounted is the result of one task.
type taskCounted struct {
	File    int
	Figures figures
	Err     string // why the file could not be read
}

func (taskCounted) Kind() string { return "wordcount.counted" }

// lastNews, as the file of a taskCounted, comes from the coordinator itself:
// results that were stored before it are handled when it is.
const lastNews = -1
