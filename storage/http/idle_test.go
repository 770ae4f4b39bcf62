package httpstore

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatchdog(t *testing.T) {
	t.Parallel()
	second := &wait{name: "a", what: "nothing", limit: time.Second}
	tests := []struct {
		name string
		run  func(d *watchdog, moved *atomic.Int64)
		want bool // whether the second is the cause of the end
	}{
		{"passes", func(d *watchdog, _ *atomic.Int64) { d.start(second); time.Sleep(time.Second) }, true},
		{"does not pass", func(d *watchdog, _ *atomic.Int64) { d.start(second); time.Sleep(time.Second - 1) }, false},
		{"stopped", func(d *watchdog, _ *atomic.Int64) { d.start(second); d.stop(); time.Sleep(time.Hour) }, false},
		{"never started", func(*watchdog, *atomic.Int64) { time.Sleep(2 * time.Hour) }, false},
		{"started again in time", func(d *watchdog, _ *atomic.Int64) {
			for range 10 {
				d.start(second)
				time.Sleep(time.Second - 1)
			}
		}, false},
		{"what is left is used up", func(d *watchdog, _ *atomic.Int64) {
			left := time.Second
			for range 10 {
				d.resume(second, left, nil, 0)
				time.Sleep(100 * time.Millisecond)
				left = d.stop()
				time.Sleep(time.Minute) // does not count
			}
			d.resume(second, left, nil, 0)
			synctest.Wait()
		}, true},
		{"progress starts it anew", func(d *watchdog, moved *atomic.Int64) {
			d.startWhile(second, moved.Load, 10)
			for range 10 {
				time.Sleep(time.Second - 1)
				moved.Add(10)
			}
			time.Sleep(10)
		}, false},
		{"too little progress does not", func(d *watchdog, moved *atomic.Int64) {
			d.startWhile(second, moved.Load, 10)
			time.Sleep(time.Second - 1)
			moved.Add(9)
			time.Sleep(1)
		}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				var moved atomic.Int64
				tt.run(newWatchdog(cancel), &moved)
				synctest.Wait()
				if got := errors.Is(context.Cause(ctx), second); got != tt.want {
					t.Errorf("ended by the wait: %v (cause %v), want %v", got, context.Cause(ctx), tt.want)
				}
			})
		})
	}
}
