package failpoint

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
)

// Env is the environment variable that holds the plan of [Arm].
const Env = "COPYFLEET_FAILPOINT"

// plan is when to die.
type plan struct {
	point Point
	item  string // part of the id of the only items that count; "": every hit counts
	left  atomic.Int64
}

var armed atomic.Pointer[plan]

// Arm sets where the process dies: "point", "point:n" for the n-th hit, or "point:n@text" (or "point@text") for the n-th hit
// by an item whose caller gave it an id that contains text. "" disarms.
func Arm(spec string) error {
	if spec == "" {
		armed.Store(nil)
		return nil
	}
	where, item, byItem := strings.Cut(spec, "@")
	name, count, counted := strings.Cut(where, ":")
	p := &plan{point: Point(name), item: item}
	hits := int64(1)
	if counted {
		n, err := strconv.ParseInt(count, 10, 64)
		if err != nil || n < 1 {
			return fmt.Errorf("%s %q: the number of hits must be 1 or more", Env, spec)
		}
		hits = n
	}
	if byItem && item == "" {
		return fmt.Errorf("%s %q: nothing stands behind @", Env, spec)
	}
	if !slices.Contains(Points, p.point) {
		return fmt.Errorf("%s %q: no such point; there are %v", Env, spec, Points)
	}
	p.left.Store(hits)
	armed.Store(p)
	return nil
}

// Hit says that the process is at a point that belongs to no single item.
func Hit(point Point) {
	if p := armed.Load(); p != nil && p.item == "" {
		p.hit(point)
	}
}

// HitItem says that the process is at a point with the item that its caller named id.
func HitItem(point Point, id string) {
	if p := armed.Load(); p != nil && strings.Contains(id, p.item) {
		p.hit(point)
	}
}

func (p *plan) hit(point Point) {
	if point == p.point && p.left.Add(-1) == 0 {
		die(point)
	}
}

// die does not return. Nothing is flushed, closed or told to anyone but the reader of the log.
func die(point Point) {
	_, _ = fmt.Fprintf(os.Stderr, "copyfleet: %s=%s: killed here\n", Env, point) // nobody else to tell
	if self, err := os.FindProcess(os.Getpid()); err == nil {
		_ = self.Kill() // this process always may
	}
	select {} // the signal reaches this thread in a moment; nothing may happen in it
}
