package workload

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Arrivals say when the operations of an open loop begin, whether those before have ended or not. The nil Arrivals are a closed loop: an operation begins
// when one before it has ended.
type Arrivals interface {
	// next returns when the next operation is due, since the start of the run.
	next() time.Duration
}

// MostRate bounds arrivals, a second.
const MostRate = 1e7

// ParseArrivals returns arrivals at a rate a second: "even", with the same time between any two, or "poisson", as of many callers that know nothing of each
// other.
func ParseArrivals(form string, rate float64, seed uint64, generator int) (Arrivals, error) {
	if !(rate > 0 && rate <= MostRate) {
		return nil, fmt.Errorf("%v operations a second: it is more than 0 and at most %.0f", rate, float64(MostRate))
	}
	switch form {
	case "even":
		return &even{rate: rate}, nil
	case "poisson":
		return &poisson{rate: rate, random: source(seed, generator, 0, useArrival)}, nil
	}
	return nil, fmt.Errorf("%q: arrivals are even or poisson", form)
}

type even struct {
	rate float64
	n    uint64
}

func (e *even) next() time.Duration {
	due := seconds(float64(e.n) / e.rate) // of the whole, so that no error adds up
	e.n++
	return due
}

type poisson struct {
	rate   float64
	random *rand.Rand
	at     float64 // seconds
}

func (p *poisson) next() time.Duration {
	p.at += p.random.ExpFloat64() / p.rate
	return seconds(p.at)
}

func seconds(s float64) time.Duration {
	return time.Duration(min(s*float64(time.Second), math.MaxInt64/2))
}
