package httpstore

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/hostilehttp"
	"github.com/copyfleet/copyfleet/storage"
)

// TestHostilePeers meets each peer that does not keep the rules with the call that it is made for.
func TestHostilePeers(t *testing.T) {
	t.Parallel()
	all := hostilehttp.All()
	for i := range all {
		b := &all[i]
		t.Run(b.Name, func(t *testing.T) {
			t.Parallel()
			got, err := meetWithin(t, b, 500*time.Millisecond)
			for limit := 4 * time.Second; b.Waits && !wanted(b, err) && limit < time.Minute; limit *= 4 {
				got, err = meetWithin(t, b, limit) // a busy machine was taken for a peer that is silent in another place
			}
			if b.Want.Code == "" {
				if err != nil || got != b.Body {
					t.Errorf("read %q, %v, want %q", got, err, b.Body)
				}
				return
			}
			e, ok := errors.AsType[*storage.Error](err)
			if !ok {
				t.Fatalf("error is %v (%T), want a *storage.Error", err, err)
			}
			for code := range strings.SplitSeq(b.Want.Code, "|") {
				if code == e.Code {
					b.Want.Code = code
				}
			}
			failure{b.Want.Class, b.Want.Code, b.Want.Message, b.Want.Status}.check(t, err)
			if e.RetryAfter != b.Want.RetryAfter {
				t.Errorf("it asks for %s, want %s", e.RetryAfter, b.Want.RetryAfter)
			}
			if len(e.Subject) > maxSubject+3 || !strings.HasPrefix(e.Subject, "http") {
				t.Errorf("subject is %q, want the URL up to its path", e.Subject)
			}
		})
	}
}

// wanted reports whether an error has a code that must come of a peer.
func wanted(b *hostilehttp.Behavior, err error) bool {
	e, ok := errors.AsType[*storage.Error](err)
	return ok && slices.Contains(strings.Split(b.Want.Code, "|"), e.Code)
}

// meetWithin meets a peer with a limit to each wait, if it is one that ends by that.
func meetWithin(t *testing.T, b *hostilehttp.Behavior, limit time.Duration) (string, error) {
	t.Helper()
	client := testClient(t, func(o *Options) {
		o.RootCAs = hostilehttp.Roots()
		if b.Waits {
			o.HeaderTimeout, o.IdleTimeout, o.TLSTimeout = limit, limit, limit
		}
	})
	return meet(t, client, b, b.URL(t)+query)
}

// meet makes the call that a behavior is for, with a secret in it, and returns what was read.
func meet(t *testing.T, client *Client, b *hostilehttp.Behavior, url string) (string, error) {
	t.Helper()
	headers := map[string]string{"Authorization": secret}
	switch b.Side {
	case hostilehttp.Target:
		stored, err := client.Put(url, headers).Put(t.Context(), zeros(b.Bytes()))
		if err != nil && stored != (storage.Stored{}) {
			t.Errorf("stored is %+v besides an error", stored)
		}
		return "", err
	case hostilehttp.Ranges:
		got, _, err := openRange(t, client.Get(url, headers), hostilehttp.Mark, hostilehttp.Broken, storage.UnknownSize)
		return got, err
	case hostilehttp.Source:
	}
	if b.Name != "body-endless" {
		got, _, err := readAll(t, client.Get(url, headers))
		return got, err
	}
	object, err := client.Get(url, headers).Open(t.Context())
	if err != nil {
		return "", err
	}
	if _, err := io.CopyN(io.Discard, object.Body, 64<<20); err != nil {
		return "", err
	}
	return "", object.Body.Close()
}

// There are enough of them, each with a name of its own.
func TestHostilePeersAreMany(t *testing.T) {
	t.Parallel()
	all := hostilehttp.All()
	seen := map[string]bool{}
	for i := range all {
		if seen[all[i].Name] {
			t.Errorf("two peers are called %s", all[i].Name)
		}
		seen[all[i].Name] = true
	}
	if len(all) < 40 {
		t.Errorf("there are %d behaviors", len(all))
	}
	t.Logf("%d behaviors", len(all))
}
