package record

import (
	"math/bits"
	"time"

	"github.com/copyfleet/copyfleet/internal/bytesize"
	"github.com/copyfleet/copyfleet/loadtest/workload"
)

// Op is what one operation was like.
type Op struct {
	Kind  workload.Kind
	Due   time.Duration // since the start of the run, when it was to begin
	Wait  time.Duration // from then on, until it began; in a closed loop 0
	First time.Duration // from when it was due until the first byte of an object came; 0: it reads none
	Took  time.Duration // from when it was due until its end
	Bytes int64         // of the object; what a stat or a delete is about counts by its size, and moves none of it
	Lag   time.Duration // that the generator itself was late by, which Due does not count; 0: nobody waited for the time to come
	Host  string        // that served it
	Fault *Fault        // nil: it went well
}

// Fault says why an operation failed.
type Fault struct {
	Class   string `json:"class"`
	Code    string `json:"code"`
	Message string `json:"message,omitempty"` // of one of several alike
	Hint    string `json:"hint,omitempty"`    // what may be done about it
}

// end is when it ended, since the start of the run.
func (o *Op) end() time.Duration { return o.Due + o.Took }

// moved is how many bytes were written or read.
func (o *Op) moved() int64 {
	if o.Kind.Moves() {
		return o.Bytes
	}
	return 0
}

// within is the share of the operation's time in an interval, from 0 to 1.
func (o *Op) within(from, to time.Duration) float64 {
	begin := o.Due + o.Wait // while it waits nothing is done
	end := o.end()
	if end <= begin {
		if begin < from || begin >= to {
			return 0
		}
		return 1
	}
	in := min(end, to) - max(begin, from)
	return max(0, in.Seconds()/(end-begin).Seconds())
}

// Class is a class of sizes: class 0 is up to 1 KiB, each next one reaches four times as far.
type Class uint8

// LastClass is the class of all sizes above 4 GiB.
const LastClass Class = 12

// ClassOf is the class of a size in bytes.
func ClassOf(size int64) Class {
	if size <= 1<<10 {
		return 0
	}
	return Class(min((bits.Len64(uint64(size-1))-9)/2, int(LastClass))) //nolint:gosec // neither is negative
}

// String says which sizes are in the class, such as "1KiB-4KiB".
func (c Class) String() string {
	upTo := bytesize.Size(1 << (10 + 2*c))
	switch c {
	case 0:
		return "0-" + upTo.String()
	case LastClass:
		return "above " + (upTo / 4).String()
	}
	return (upTo / 4).String() + "-" + upTo.String()
}
