package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// uploadProgress shows how far an upload is: a block that is drawn in place on a terminal, else a line at its beginning.
type uploadProgress struct {
	env  *environment
	term terminal
	stop func() error // nil: nothing is drawn

	mu      sync.Mutex
	head    string
	what    string
	began   time.Time
	done    int64
	total   int64 // -1: not known
	tries   map[*atomic.Int64]struct{}
	said    string
	samples []paceSample
	id      string
}

// paceSample is how much there was at a moment.
type paceSample struct {
	at   time.Time
	done int64
}

// paceWindow is what the rate is measured over.
const paceWindow = 15 * time.Second

func newUploadProgress(env *environment) *uploadProgress {
	v := &uploadProgress{env: env, tries: map[*atomic.Int64]struct{}{}}
	if v.term = terminalOf(env.stdout); v.term.live() && !env.json {
		v.stop = (&block{term: v.term, out: env.stdout}).keep(v.lines)
	}
	return v
}

// begun tells of the session.
func (v *uploadProgress) begun(r *uploadRun) {
	s := r.session
	where := r.sandbox + ":" + s.TargetPath
	v.mu.Lock()
	v.head, v.id = s.ID+"  "+where, s.ID
	v.mu.Unlock()
	so := "begun: " + size(s.Length) + " in " + several(s.PartCount, "part", "parts") + " to " + where
	if r.Resume != "" {
		so = "goes on: " + size(s.Accepted) + " of " + size(s.Length) + " are there"
	}
	switch {
	case v.env.json:
		_ = printJSON(v.env, map[string]any{"session": s}) // the summary fails as well
	case v.stop == nil:
		_ = printf(v.env, "%s %s\n", clean(s.ID), clean(so)) // as above
	}
}

// phase begins another thing that takes its time.
func (v *uploadProgress) phase(what string, done, total int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.what, v.began, v.done, v.total, v.samples, v.said = what, time.Now(), done, total, nil, ""
}

func (v *uploadProgress) add(n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.done += n
}

// try counts bytes that may come to nothing. ended takes them back, and counts so many for good if the try was kept.
func (v *uploadProgress) try() (counter *atomic.Int64, ended func(kept bool, bytes int64)) {
	counter = &atomic.Int64{}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tries[counter] = struct{}{}
	return counter, func(kept bool, bytes int64) {
		v.mu.Lock()
		defer v.mu.Unlock()
		delete(v.tries, counter)
		if kept {
			v.done += bytes
			v.said = ""
		}
	}
}

// note tells something beside the output.
func (v *uploadProgress) note(text string) {
	if v.stop == nil {
		v.env.note(text)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.said = text
}

// close takes the block away.
func (v *uploadProgress) close() error {
	if v.stop == nil {
		return nil
	}
	return v.stop()
}

func (v *uploadProgress) lines(now time.Time) []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.what == "" {
		return nil
	}
	done := v.done
	for counter := range v.tries {
		done += counter.Load()
	}
	var out []string
	if v.head != "" {
		out = append(out, v.term.paint(bold, clean(v.head)))
	}
	out = append(out, v.bar(done, now))
	if v.said != "" {
		out = append(out, v.term.paint(yellow, clean(v.said)))
	}
	if v.id != "" {
		out = append(out, v.term.paint(faint, "Ctrl-C stops; --resume goes on."))
	}
	return out
}

// bar draws how much is done, how fast it goes, and how long it will take.
func (v *uploadProgress) bar(done int64, now time.Time) string {
	if v.total >= 0 && done >= v.total && v.what == "publishing" {
		return fmt.Sprintf("  %s  for %s", v.what, span(now.Sub(v.began)))
	}
	v.samples = append(v.samples, paceSample{now, done})
	for len(v.samples) > 2 && now.Sub(v.samples[1].at) > paceWindow {
		v.samples = v.samples[1:]
	}
	first := v.samples[0]
	took := now.Sub(first.at).Seconds()
	pace := 0.0
	if took > 0 {
		pace = max(float64(done-first.done), 0) / took // parts that broke off are taken back
	}
	if v.total <= 0 {
		return fmt.Sprintf("  %s %s  %s/s", v.what, size(done), size(int64(pace)))
	}
	share := float64(done) / float64(v.total)
	text := fmt.Sprintf(" %3.0f%%  %s of %s  %s/s", 100*share, size(done), size(v.total), size(int64(pace)))
	if pace >= 1 && done < v.total {
		text += "  " + span(time.Duration(float64(v.total-done)/pace*float64(time.Second))) + " left"
	}
	return barLine(v.term.room(), "  "+v.what+" ", share, text)
}
