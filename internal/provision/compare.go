package provision

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// difference is one setting of an existing stream that breaks a promise.
type difference struct {
	setting    string
	have, want string
	// flag is the argument of `nats stream edit` that mends it; empty when the
	// server cannot change it.
	flag string
}

// compare returns ErrDiffers with every difference between have and want that
// a promise rests on, and the command that mends them.
func compare(have, want jetstream.StreamConfig) error {
	diffs := differences(have, want)
	if len(diffs) == 0 {
		return nil
	}
	var what, flags []string
	rebuild := false
	for _, d := range diffs {
		what = append(what, fmt.Sprintf("%s is %s, must be %s", d.setting, d.have, d.want))
		if d.flag == "" {
			rebuild = true
			continue
		}
		flags = append(flags, d.flag)
	}
	mend := fmt.Sprintf("nats stream edit %s %s --force", want.Name, strings.Join(flags, " "))
	if rebuild {
		mend = fmt.Sprintf("nats stream rm %s (its content is lost; it is then made anew)", want.Name)
	}
	return fmt.Errorf("%w: %s: %s; mend it with: %s", ErrDiffers, want.Name, strings.Join(what, "; "), mend)
}

func differences(have, want jetstream.StreamConfig) (diffs []difference) {
	differs := func(broken bool, setting string, have, want any, flag string) {
		if broken {
			diffs = append(diffs, difference{setting: setting, have: fmt.Sprint(have), want: fmt.Sprint(want), flag: flag})
		}
	}
	// More subjects are a newer version's business; a missing one is a broken promise.
	missing := slices.ContainsFunc(want.Subjects, func(s string) bool { return !slices.Contains(have.Subjects, s) })
	differs(missing, "subjects", have.Subjects, want.Subjects, "--subjects='"+strings.Join(union(have.Subjects, want.Subjects), ",")+"'")
	differs(have.Retention != want.Retention, "retention", have.Retention, want.Retention, "")
	differs(have.Discard != want.Discard, "discard", have.Discard, want.Discard, "--discard="+strings.ToLower(strings.TrimPrefix(want.Discard.String(), "Discard")))
	differs(have.DiscardNewPerSubject != want.DiscardNewPerSubject, "discard per subject", have.DiscardNewPerSubject, want.DiscardNewPerSubject, negatable("discard-per-subject", want.DiscardNewPerSubject))
	differs(limit(have.MaxMsgsPerSubject) != limit(want.MaxMsgsPerSubject), "max messages per subject", limit(have.MaxMsgsPerSubject), limit(want.MaxMsgsPerSubject), "--max-msgs-per-subject="+strconv.FormatInt(limit(want.MaxMsgsPerSubject), 10))
	differs(republish(have) != republish(want), "republish", republish(have), republish(want), republishFlag(want))
	differs(want.AllowMsgTTL && !have.AllowMsgTTL, "per-message TTL", "off", "on", "--allow-msg-ttl")
	differs(have.SubjectDeleteMarkerTTL < want.SubjectDeleteMarkerTTL, "TTL of delete markers", have.SubjectDeleteMarkerTTL, want.SubjectDeleteMarkerTTL, "--subject-del-markers-ttl="+want.SubjectDeleteMarkerTTL.String())
	differs(want.AllowDirect && !have.AllowDirect, "direct get", "off", "on", "--allow-direct")
	differs(want.AllowRollup && !have.AllowRollup, "rollup", "off", "on", "--allow-rollup")
	differs(have.NoAck && !want.NoAck, "acknowledgement of publishes", "off", "on", "--ack")
	differs(have.Sealed, "sealed", true, false, "")
	// A limit that the design forbids drops acknowledged messages, or refuses them.
	differs(limit(want.MaxMsgs) < 0 && limit(have.MaxMsgs) > 0, "max messages", have.MaxMsgs, "unlimited", "--max-msgs=-1")
	differs(limit(want.MaxBytes) < 0 && limit(have.MaxBytes) > 0, "max bytes", have.MaxBytes, "unlimited", "--max-bytes=-1")
	differs(want.MaxAge <= 0 && have.MaxAge > 0, "max age", have.MaxAge, "unlimited", "--max-age="+time.Duration(0).String())
	return diffs
}

// limit gives "no limit" its one spelling.
func limit(n int64) int64 {
	if n <= 0 {
		return -1
	}
	return n
}

func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

func negatable(flag string, on bool) string {
	if on {
		return "--" + flag
	}
	return "--no-" + flag
}

func republish(c jetstream.StreamConfig) string {
	if c.RePublish == nil {
		return "off"
	}
	text := c.RePublish.Source + " -> " + c.RePublish.Destination
	if c.RePublish.HeadersOnly {
		text += " (headers only)"
	}
	return text
}

func republishFlag(c jetstream.StreamConfig) string {
	if c.RePublish == nil {
		return "--no-republish"
	}
	return fmt.Sprintf("--republish-source='%s' --republish-destination='%s'", c.RePublish.Source, c.RePublish.Destination)
}
