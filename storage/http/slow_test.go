package httpstore

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

// paced is a body that gives some bytes after each pause, until its exchange ends.
type paced struct {
	ctx   context.Context //nolint:containedctx // of the exchange
	each  int
	pause func(read int) time.Duration
	read  int
}

func (p *paced) Read(buf []byte) (int, error) {
	select {
	case <-time.After(p.pause(p.read)):
	case <-p.ctx.Done():
		return 0, p.ctx.Err()
	}
	n := min(p.each, len(buf))
	p.read += n
	return n, nil
}

func (*paced) Close() error { return nil }

// TestSlowIsLeftAloneAndDrippingIsNot reads from peers of all paces with the limits that nobody changed.
func TestSlowIsLeftAloneAndDrippingIsNot(t *testing.T) {
	t.Parallel()
	every := func(d time.Duration) func(int) time.Duration { return func(int) time.Duration { return d } }
	for _, row := range []struct {
		name    string
		each    int
		pause   func(read int) time.Duration
		size    int64
		least   int64 // of progress; 0: the default
		code    string
		message string
	}{
		{"10 KiB a second", 1 << 10, every(100 * time.Millisecond), 10 << 20, 0, "", ""},
		{"300 bytes a second", 30, every(100 * time.Millisecond), 1 << 20, 0, "", ""},
		{"4 KiB now and then", 4 << 10, every(29 * time.Second), 1 << 20, 0, "", ""},
		{"2 bytes a second", 1, every(time.Second / 2), 1 << 20, 0, "source_too_slow", "Network timeout: fewer than 4096 bytes arrived within 30s"},
		{"100 bytes a second", 100, every(time.Second), 1 << 20, 0, "source_too_slow", "Network timeout: fewer than 4096 bytes"},
		{"2 bytes a second, which is allowed", 1, every(time.Second / 2), 1 << 10, 1, "", ""},
		{"silent", 1, every(time.Hour), 1 << 20, 0, "source_idle_timeout", "Network timeout: no bytes arrived within 30s"},
		{
			"silent after some bytes", 5, func(read int) time.Duration { return time.Second + time.Duration(read)*time.Hour }, 1 << 20, 0,
			"source_idle_timeout", "Network timeout: no bytes arrived within 29s",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				client := NewClient(Options{MinProgress: row.least})
				defer client.Close()
				x := client.newExchange(t.Context(), call{side: source, op: "read", subject: "http://peer/"})
				b := newBody(x, x.call, &paced{ctx: x.ctx, each: row.each, pause: row.pause}, row.size)
				defer b.Close()
				n, err := io.Copy(io.Discard, io.LimitReader(b, row.size))
				if row.code == "" {
					if err != nil || n != row.size {
						t.Errorf("%d bytes, %v", n, err)
					}
					return
				}
				e, ok := errors.AsType[*storage.Error](err)
				if !ok || e.Class != storage.Timeout || e.Code != row.code || !strings.HasPrefix(e.Message, row.message) {
					t.Errorf("%d bytes, %v, want %s, %s", n, err, row.code, row.message)
				}
			})
		})
	}
}
