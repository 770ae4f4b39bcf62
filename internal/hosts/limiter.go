package hosts

import (
	"math"
	"time"
)

// limiter finds out how many items at once a host does most with. It works in rounds: in each it measures what was done a second, in
// bytes and items together, while as many were there as it allows.
//
// At first it allows twice as many after each round that brought clearly more. Then it holds what was best, and tries a few more or
// a few less now and then, the more seldom the longer nothing is to be gained. Fewer that do the same are better: what they would
// wait for at the host, others can use.
type limiter struct {
	limit float64
	most  float64
	ramp  bool

	// of the round
	from    time.Time
	changed time.Time // when busy was last brought up to date
	busy    float64   // items at once times seconds
	done    int       // items that left
	bytes   int64     // that moved

	best     float64 // throughput, the highest of the ramp, or that of the limit that is held
	bestAt   float64 // the limit that brought it
	strikes  int     // rounds of the ramp that brought no more
	cost     float64 // seconds of a place for a unit of work, the least of late
	trial    float64 // the limit to go back to; 0: no trial is under way
	down     bool    // the next trial is of fewer
	hold     int     // rounds to wait between trials
	held     int     // rounds that were waited
	recoiled time.Time

	rate   float64 // items a second, since somebody was there without a pause; 0: not known
	rateAt float64 // the limit at which it was found
}

const (
	limitStart = 4
	itemWorth  = 256 << 10 // what an item is worth beside its bytes

	rampRound   = 20 * time.Millisecond
	steadyRound = 400 * time.Millisecond
	longRound   = 10 * time.Second
	roundBytes  = 4 << 20 // for each place: as good as an item that left

	rampGain    = 1.15 // by which twice as many must do more
	rampStrikes = 2
	trialUp     = 1.25
	trialDown   = 0.8
	upGain      = 1.07 // by which a few more must do more
	downLoss    = 0.97 // up to which a few less may do less
	holdMost    = 32
	busyEnough  = 0.75 // of the limit that must have been there for a round to tell something
	crowded     = 1.25 // times the least cost: items wait for each other at the host
	forget      = 1.02 // by which the least cost is forgotten in a round
	recoil      = 0.7
	recoilRest  = 100 * time.Millisecond
)

func newLimiter(most int) limiter {
	return limiter{limit: min(limitStart, float64(most)), most: float64(most), ramp: most > limitStart, hold: 1}
}

// places is how many may be there now.
func (l *limiter) places() int { return max(int(l.limit), 1) }

// spend brings busy up to date, before the number of those who are there changes from used.
func (l *limiter) spend(now time.Time, used int) {
	if l.from.IsZero() {
		l.from, l.changed = now, now
	}
	l.busy += float64(used) * now.Sub(l.changed).Seconds()
	l.changed = now
}

// idle ends a round that nobody is there for any more: what it measured would tell about the pause. The rate told about those who were there:
// one slow item would have all that come after it sent away for a minute.
func (l *limiter) idle() { l.from, l.busy, l.done, l.bytes, l.rate = time.Time{}, 0, 0, 0, 0 }

// turn ends the round if it is over. It reports whether the limit changed.
func (l *limiter) turn(now time.Time) bool {
	took := now.Sub(l.from)
	least := steadyRound
	if l.ramp {
		least = rampRound
	}
	enough := l.done >= max(l.places(), limitStart) || l.bytes >= int64(l.places())*roundBytes
	if took < least || !enough && took < longRound {
		return false
	}
	seconds := took.Seconds()
	work := float64(l.done) + float64(l.bytes)/itemWorth
	used, throughput := l.busy/seconds, work/seconds
	if l.done > 0 {
		l.rate, l.rateAt = float64(l.done)/seconds, l.limit
	}
	before := l.places()
	if work > 0 && used >= busyEnough*float64(before) {
		l.judge(throughput, l.busy/work)
	}
	l.from, l.changed, l.busy, l.done, l.bytes = now, now, 0, 0, 0
	return l.places() != before
}

func (l *limiter) judge(throughput, cost float64) {
	if l.cost == 0 || cost < l.cost {
		l.cost = cost
	} else {
		l.cost *= forget
	}
	switch {
	case l.ramp:
		l.climb(throughput)
	case l.trial != 0:
		l.decide(throughput)
	default:
		l.best += (throughput - l.best) / 4
		if l.held++; l.held >= l.hold {
			l.try(cost)
		}
	}
}

// climb is a round of the ramp.
func (l *limiter) climb(throughput float64) {
	switch {
	case throughput >= l.best*rampGain:
		l.best, l.bestAt, l.strikes = throughput, l.limit, 0
		if l.limit >= l.most {
			l.ramp = false
		}
		l.limit = min(2*l.limit, l.most)
	default:
		if l.strikes++; l.strikes >= rampStrikes {
			l.settle()
		}
	}
}

// settle ends the ramp with what was best.
func (l *limiter) settle() {
	l.ramp, l.held, l.hold = false, 0, 1
	if l.bestAt > 0 {
		l.limit = l.bestAt
	}
}

// try begins a trial.
func (l *limiter) try(cost float64) {
	l.held = 0
	down := l.down && l.limit > 1
	if l.limit >= l.most {
		down = true
	}
	if down && l.limit > 2*limitStart && cost < crowded*l.cost { // nobody waits at the host, as far as fewer have shown: fewer would do less
		l.down = false
		if l.limit >= l.most {
			return
		}
		down = false
	}
	l.trial = l.limit
	if down {
		l.limit = max(1, math.Floor(l.limit*trialDown))
	} else {
		l.limit = min(l.most, math.Ceil(l.limit*trialUp))
	}
	l.down = down
}

// decide ends a trial.
func (l *limiter) decide(throughput float64) {
	up := l.limit > l.trial
	good := throughput >= l.best*upGain
	if !up {
		good = throughput >= l.best*downLoss
	}
	if good {
		l.best, l.hold = throughput, 1
	} else {
		l.limit, l.hold, l.down = l.trial, min(2*l.hold, holdMost), up
	}
	l.trial = 0
}

// recoil takes places away from a host that asks for it, once for all that it refuses at about the same time.
func (l *limiter) recoil(now time.Time) {
	if now.Sub(l.recoiled) < recoilRest {
		return
	}
	l.recoiled = now
	l.limit = max(1, math.Floor(l.limit*recoil))
	l.ramp, l.trial, l.held, l.hold, l.down = false, 0, 0, 4, false
	l.best, l.bestAt = l.best*recoil, l.limit
}

// restart begins anew after a rest. A host that asked for it gets half of what it had.
func (l *limiter) restart(asked bool) {
	rate := l.rate
	if asked {
		l.limit = max(1, math.Floor(l.limit/2))
		l.ramp, l.trial, l.held, l.hold, l.best = false, 0, 0, 2, 0
		l.idle()
		return
	}
	*l = newLimiter(int(l.most))
	l.rate, l.rateAt = rate, l.most
}

// pace is how many items a second may be expected to pass; 0: not known. While the ramp lasts it is what would pass with all places: what
// four places pass says nothing of the next second, and whoever were told to come later by it would cost another delivery and claim.
func (l *limiter) pace() float64 {
	if l.ramp && l.rateAt > 0 {
		return l.rate * l.most / l.rateAt
	}
	return l.rate
}
