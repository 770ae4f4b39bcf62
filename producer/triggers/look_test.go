package triggers

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/copyfleet/copyfleet/protocol"
)

// hide publishes that objects were written, in one notification that tells nothing of their metadata.
func (s *stage) hide(bucket string, keys ...string) {
	s.Helper()
	var records []any
	for i, key := range keys {
		records = append(records, created(key, i+1, "")["Records"].([]any)[0])
	}
	raw, err := json.Marshal(map[string]any{"Records": records})
	if err != nil {
		s.Fatal(err)
	}
	text := strings.ReplaceAll(strings.ReplaceAll(string(raw), `"userMetadata"`, `"else"`), `"name":"inbox"`, `"name":"`+bucket+`"`)
	s.publish(protocol.EventS3, json.RawMessage(text))
}

// TestOnlyGrantedObjectsAreLookedAt, since what is seen of others, that they came through a rule, is told in counts.
func TestOnlyGrantedObjectsAreLookedAt(t *testing.T) {
	t.Parallel()
	s := newStage(t, strings.ReplaceAll(copyRule, "inbox", "forbidden"))
	s.shelf.objects["forbidden/a"] = Object{Metadata: map[string]string{protocol.TrailHeader: "ACME-dev/copy"}}
	s.hide("forbidden", "a")
	s.run()
	until(t, "it is refused", func() bool { return s.counts("copy") == Counts{Matched: 1, Refused: 1} })
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.shown["copy"].Problems; len(p) != 1 || p[0].Code != codeNotGranted {
		t.Errorf("problems %+v", p)
	}
}

// TestDeniedObjectsHoldNothingUp: no waiting makes a store let us look.
func TestDeniedObjectsHoldNothingUp(t *testing.T) {
	t.Parallel()
	s := newStage(t, copyRule)
	s.shelf.down = ErrDenied
	s.hide("inbox", "a", "b")
	s.run()
	until(t, "both are refused", func() bool { return s.counts("copy") == Counts{Matched: 2, Refused: 2} })
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.shown["copy"].Problems; len(p) != 2 || p[0].Code != codeUnreadable {
		t.Errorf("problems %+v", p)
	}
}

// TestSeveralAreLookedAtAtOnce has looks that wait for each other, each of which has a limit. The copies are asked for in the order of the events.
func TestSeveralAreLookedAtAtOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t, copyRule)
	const many = 3 * lookAtOnce
	keys := make([]string, many)
	for i := range keys {
		keys[i] = "k" + strconv.Itoa(i)
		trail := ""
		if i%5 == 0 {
			trail = "ACME-dev/copy"
		}
		s.shelf.objects["inbox/"+keys[i]] = Object{Metadata: map[string]string{protocol.TrailHeader: trail}}
	}
	s.hide("inbox", keys...)
	var mu sync.Mutex
	looks, together := map[string]int{}, make(chan struct{})
	o := s.org()
	o.stat = func(ctx context.Context, bucket, key, version string) (Object, error) {
		if _, limited := ctx.Deadline(); !limited {
			t.Error("a look has no limit")
		}
		mu.Lock()
		looks[key]++
		if len(looks) == lookAtOnce {
			close(together)
		}
		mu.Unlock()
		select {
		case <-together:
		case <-ctx.Done():
		}
		return s.shelf.stat(ctx, bucket, key, version)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- o.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	until(t, "all are decided on", func() bool { return s.counts("copy").Matched == many })
	var want []string
	for i, key := range keys {
		if i%5 != 0 {
			want = append(want, "inbox/"+key+" ")
		}
	}
	var got []string
	for _, item := range s.desk.items() {
		got = append(got, item.ID)
	}
	if strings.Join(got, ",") != strings.Join(want, ",") {
		t.Errorf("copies of %q, want %q", got, want)
	}
	mu.Lock()
	defer mu.Unlock()
	for key, n := range looks {
		if n != 1 {
			t.Errorf("%s was looked at %d times", key, n)
		}
	}
}

// TestTrailsThatNoRuleWrites are refused at once: anybody may write such metadata, or tell of them, of any length. The events behind are decided on.
func TestTrailsThatNoRuleWrites(t *testing.T) {
	t.Parallel()
	s := newStage(t, copyRule)
	random := make([]byte, 500<<10)
	_, _ = rand.Read(random) // never fails
	trails := []string{hex.EncodeToString(random)[:900<<10], strings.Repeat("x", mostTrail), "ORG/ä", "ORG/a\x7f", "a\nb"}
	for i, trail := range trails {
		s.put(strconv.Itoa(i), i+1, trail)
	}
	s.put("good", 9, " , OTHER/a ,, OTHER/b")
	s.run()
	until(t, "all are decided on", func() bool {
		return s.counts("copy") == Counts{Matched: len(trails) + 1, Copies: 1, Refused: len(trails)}
	})
	if got := protocol.JoinTrail(s.desk.items()[0].Trail); got != "OTHER/a,OTHER/b,ACME-dev/copy" {
		t.Errorf("the copy came through %q", got)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.shown["copy"].Problems {
		if p.Code != codeTrail {
			t.Errorf("%+v", p)
		}
	}
}
