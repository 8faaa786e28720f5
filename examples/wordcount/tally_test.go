package main

import (
	"testing"
	"time"
)

func TestEachFileCountsOnce(t *testing.T) {
	tl := newTally(2)
	now := time.Now()
	one := taskCounted{File: 0, Figures: figures{1, 10, 20, 30}, Attempt: 1}
	if !tl.count(one, "a", now) || tl.count(one, "b", now) {
		t.Fatal("a repeat counted")
	}
	select {
	case <-tl.half:
	default:
		t.Fatal("half of two is one")
	}
	tl.count(taskCounted{File: 1, Figures: figures{1, 1, 1, 1}, Attempt: 3}, "b", now)
	<-tl.done
	if want := (figures{2, 11, 21, 31}); tl.total != want || tl.redelivered != 1 {
		t.Fatalf("%+v, %d redelivered", tl.total, tl.redelivered)
	}
	for _, bad := range []int{-1, 2} {
		if tl.count(taskCounted{File: bad}, "a", now) {
			t.Error("a file that nobody sent counted")
		}
		tl.begun(bad, "a")
	}
}

func TestMovedIsWhatWasDeliveredAgainAfterTheKill(t *testing.T) {
	tl := newTally(4)
	now := time.Now()
	tl.begun(0, "victim")
	tl.begun(1, "victim")
	if n := tl.inHand([]string{"victim", "other"}); n[0] != 2 || n[1] != 0 {
		t.Fatal(n)
	}
	tl.count(taskCounted{File: 3, Attempt: 2}, "other", now)
	tl.kill([]string{"victim"}, now)
	tl.count(taskCounted{File: 0, Attempt: 1}, "victim", now.Add(time.Second)) // was on its way
	tl.count(taskCounted{File: 1, Attempt: 2}, "other", now.Add(2*time.Second))
	tl.count(taskCounted{File: 2, Attempt: 1}, "other", now.Add(3*time.Second))
	if tl.moved != 1 || tl.movedIn != 2*time.Second || tl.redelivered != 2 {
		t.Fatal(tl.moved, tl.movedIn, tl.redelivered)
	}
}

func TestAFileThatCannotBeReadEndsTheRun(t *testing.T) {
	tl := newTally(2)
	tl.count(taskCounted{File: 1, Err: "permission denied"}, "a", time.Now())
	<-tl.done
	if tl.failed == nil || tl.count(taskCounted{File: 0}, "a", time.Now()) {
		t.Fatal(tl.failed)
	}
}
