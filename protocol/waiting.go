package protocol

import "time"

// WaitingWork is one work of a [KindWaiting]: what tells it from the others of its batch.
type WaitingWork struct {
	Index    int       `json:"i"`
	ID       string    `json:"id,omitempty"`
	Sealed   []byte    `json:"s,omitempty"`
	Fence    uint64    `json:"f,omitempty"`
	Attempts []Attempt `json:"a,omitempty"`
	Since    time.Time `json:"t,omitzero"`
}

// WaitingHost is the side of a host that works wait for.
type WaitingHost struct {
	Name    string `json:"name"`
	Dest    bool   `json:"dest,omitempty"`
	Resting bool   `json:"resting,omitempty"` // it failed, or asked for it; false: it has no place
}

// WaitWith returns a work that stands for works of one batch which wait for a host together. There is at least one.
func WaitWith(host WaitingHost, works []Work) Work {
	together := works[0]
	together.Kind, together.Host, together.Waiting = KindWaiting, &host, make([]WaitingWork, len(works))
	together.Index, together.ID, together.Sealed = 0, "", nil
	together.Fence, together.Attempts, together.Since, together.Recheck = 0, nil, time.Time{}, true
	for i := range works {
		w := &works[i]
		together.Waiting[i] = WaitingWork{
			Index: w.Index, ID: w.ID, Sealed: w.Sealed, Fence: w.Fence, Attempts: w.Attempts, Since: w.Since,
		}
	}
	return together
}

// Apart returns the works that a [KindWaiting] stands for. They are to be looked up: another worker may have them already.
func (w *Work) Apart() []Work {
	list := make([]Work, len(w.Waiting))
	for i := range w.Waiting {
		one, work := &w.Waiting[i], *w
		work.Kind, work.Host, work.Waiting, work.Recheck = KindCopy, nil, nil, true
		work.Index, work.ID, work.Sealed, work.Fence = one.Index, one.ID, one.Sealed, one.Fence
		work.Attempts, work.Since = one.Attempts, one.Since
		list[i] = work
	}
	return list
}
