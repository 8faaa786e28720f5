package main

// countTask asks any worker to count one file.
type countTask struct {
	File int    // its number in the coordinator's list
	Path string // where it is
}

func (countTask) Kind() string { return "wordcount.count" }

// taskBegun tells the coordinator what a worker has in hand. It is sent at most
// once: nothing rests on it but the choice of the moment to kill.
type taskBegun struct{ File int }

func (taskBegun) Kind() string { return "wordcount.begun" }

// taskCounted is the result of one task.
type taskCounted struct {
	File    int
	Figures figures
	Attempt int    // how often the task had been delivered
	Err     string // why the file could not be read
}

func (taskCounted) Kind() string { return "wordcount.counted" }

// lastNews is sent by the coordinator to itself: what was stored before it has
// arrived when it does.
type lastNews struct{}

func (lastNews) Kind() string { return "wordcount.news" }
