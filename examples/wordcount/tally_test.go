package main

import (
	"testing"
	"time"
)

func TestEachFileCountsOnce(t *testing.T) {
	tl := newTally(2)
	one := taskCounted{File: 0, Figures: figures{1, 10, 20, 30}}
	if !tl.count(one, "a") || tl.count(one, "b") {
		t.Fatal("a repeat counted")
	}
	select {
	case <-tl.half:
	default:
		t.Fatal("half of two is one")
	}
	for _, bad := range []int{-1, 2} {
		if tl.count(taskCounted{File: bad}, "a") {
			t.Error("a file that nobody sent counted")
		}
		tl.begun(taskBegun{File: bad, Attempt: 1}, "a", time.Now())
	}
	tl.begun(taskBegun{File: 1, Attempt: 3}, "b", time.Now())
	tl.count(taskCounted{File: 1, Figures: figures{1, 1, 1, 1}}, "b")
	<-tl.done
	if want := (figures{2, 11, 21, 31}); tl.total != want || tl.redelivered != 1 || tl.moved != 0 {
		t.Fatalf("%+v, %d redelivered, %d moved", tl.total, tl.redelivered, tl.moved)
	}
}

func TestWhatAVictimHeldMustMove(t *testing.T) {
	tl := newTally(3)
	now := time.Now()
	victim := []string{"victim"}
	if tl.hold(victim, now) {
		t.Fatal("it has nothing")
	}
	for file, node := range []string{"victim", "victim", "other"} { // 0, 1, 2
		tl.begun(taskBegun{File: file, Attempt: 1}, node, now)
	}
	if tl.idle(victim) || !tl.hold(victim, now) {
		t.Fatal("it has two")
	}
	tl.count(taskCounted{File: 0}, "victim") // was on its way
	tl.count(taskCounted{File: 2}, "other")
	if tl.over() {
		t.Fatal("one has not moved")
	}
	tl.begun(taskBegun{File: 1, Attempt: 2}, "other", now.Add(time.Second))
	tl.begun(taskBegun{File: 0, Attempt: 2}, "other", now.Add(2*time.Second)) // its ack was not
	if tl.moved != 2 || tl.movedIn != 2*time.Second || tl.redelivered != 2 {
		t.Fatal(tl.moved, tl.movedIn, tl.redelivered)
	}
	if tl.count(taskCounted{File: 1}, "other"); !tl.over() {
		t.Fatal("all is counted and has moved")
	}
}

func TestAVictimThatHeldNothingInTruthEndsTheWait(t *testing.T) {
	tl := newTally(1)
	tl.begun(taskBegun{File: 0, Attempt: 1}, "victim", time.Now())
	if !tl.hold([]string{"victim"}, time.Now()) {
		t.Fatal("it has one")
	}
	if tl.count(taskCounted{File: 0}, "victim"); tl.over() {
		t.Fatal("the end was not waited for")
	}
	if tl.waive(); !tl.over() {
		t.Fatal("waited for ever")
	}
	tl.waive()
}

func TestAFileThatCannotBeReadEndsTheRun(t *testing.T) {
	tl := newTally(2)
	tl.count(taskCounted{File: 1, Err: "permission denied"}, "a")
	<-tl.done
	if tl.failed == nil || tl.count(taskCounted{File: 0}, "a") {
		t.Fatal(tl.failed)
	}
}
