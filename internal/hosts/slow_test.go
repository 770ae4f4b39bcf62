package hosts

import (
	"testing"
	"testing/synctest"
	"time"
)

// A host whose last round was slow is not taken for one that is slow for ever: what comes after it has been left alone waits in its line,
// and is not sent away for as long as the slow round would have it.
func TestASlowRoundIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := New(Config{Slots: 8})
		ask := Ask{Keys: []Key{{Source, "http://a:80"}}}
		v, err := table.Enter(t.Context(), ask, nil)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		v.Leave(Result{Kind: Worked})

		var visits []*Visit
		for range limitStart {
			v, err := table.Enter(t.Context(), ask, nil)
			if err != nil {
				t.Fatal(err)
			}
			visits = append(visits, v)
		}
		done := make(chan error)
		go func() {
			v, err := table.Enter(t.Context(), ask, nil)
			if err == nil {
				v.Leave(Result{Kind: Worked})
			}
			done <- err
		}()
		time.Sleep(10 * time.Millisecond)
		for _, v := range visits {
			v.Leave(Result{Kind: Worked})
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
