package triggers

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/protocol"
)

// desk is a queue that keeps what it is told. A batch that is submitted again is the same one.
type desk struct {
	mu      sync.Mutex
	batches map[protocol.BatchID]Batch
	order   []protocol.BatchID
	ended   map[protocol.BatchID]bool
	all     bool  // everything has ended
	down    error // of the next calls
	again   int   // batches that were submitted more than once
}

func newDesk() *desk {
	return &desk{batches: map[protocol.BatchID]Batch{}, ended: map[protocol.BatchID]bool{}}
}

func (d *desk) Check(_ context.Context, _ protocol.OrgID, item []byte) (Checked, error) {
	var m protocol.ManifestItem
	type end struct {
		Bucket  string `json:"bucket"`
		Key     string `json:"key"`
		Sandbox string `json:"sandbox"`
		Path    string `json:"path"`
		URL     string `json:"url"`
	}
	var raw struct {
		Src  end `json:"src"`
		Dest end `json:"dest"`
	}
	if err := json.Unmarshal(item, &raw); err != nil {
		return Checked{}, &Refusal{Code: "invalid", Message: err.Error()}
	}
	if raw.Dest.Bucket == "forbidden" {
		return Checked{}, &Refusal{Code: "forbidden", Message: "no grant"}
	}
	m.ID = raw.Src.Bucket + "/" + raw.Src.Key + " " + raw.Src.URL
	return Checked{Item: m, Pool: "default", Dest: "s3://" + raw.Dest.Bucket + "/" + raw.Dest.Key}, nil
}

func (d *desk) Granted(_ protocol.OrgID, bucket, _ string) bool { return bucket != "forbidden" }

func (d *desk) Submit(_ context.Context, b Batch) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down != nil {
		return d.down
	}
	if _, ok := d.batches[b.ID]; ok {
		d.again++
		return nil
	}
	d.batches[b.ID] = b
	d.order = append(d.order, b.ID)
	return nil
}

func (d *desk) Ended(_ context.Context, _ protocol.OrgID, id protocol.BatchID, _ int) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all || d.ended[id], nil
}

func (d *desk) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = err
}

// end ends all batches that are there.
func (d *desk) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.batches {
		d.ended[id] = true
	}
}

// items are all items in the order in which their batches came.
func (d *desk) items() []protocol.ManifestItem {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []protocol.ManifestItem
	for _, id := range d.order {
		list = append(list, d.batches[id].Items...)
	}
	return list
}

// shelf has the objects that rules look at.
type shelf struct {
	mu      sync.Mutex
	objects map[string]Object
	down    error
}

func (s *shelf) stat(_ context.Context, bucket, key, _ string) (Object, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return Object{}, s.down
	}
	o, ok := s.objects[bucket+"/"+key]
	if !ok {
		return o, ErrNoObject
	}
	return o, nil
}

// stage is one org on a real broker.
type stage struct {
	*testing.T

	conn   *broker.Conn
	sealer *protocol.Sealer
	desk   *desk
	shelf  *shelf

	mu     sync.Mutex
	active []activeRule
	shown  map[string]shown
	swept  map[string]sweepTally
}

func newStage(t *testing.T, text string) *stage {
	t.Helper()
	sealer, err := protocol.NewSealer(protocol.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{
		T: t, conn: connect(t, startServer(t)), sealer: sealer, desk: newDesk(), shelf: &shelf{objects: map[string]Object{}},
		shown: map[string]shown{}, swept: map[string]sweepTally{},
	}
	s.apply(text)
	return s
}

// apply replaces the rules.
func (s *stage) apply(text string) {
	s.Helper()
	list, problems := rules.Parse([]byte(text))
	if len(problems) > 0 {
		s.Fatal(problems)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	version := 1
	if len(s.active) > 0 {
		version = s.active[0].version + 1
	}
	s.active = nil
	for _, r := range list {
		s.active = append(s.active, activeRule{rule: r, version: version})
	}
}

func (s *stage) org() *org {
	return &org{
		id: acme, streams: ledgerOf(s.conn, acme), sealer: s.sealer, queue: s.desk, memory: DefaultMemory, behind: mostBehind, log: slog.New(slog.DiscardHandler),
		now: time.Now, secret: func(string) (string, error) { return "hush", nil }, stat: s.shelf.stat,
		rules: func(context.Context) ([]activeRule, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.active, nil
		},
		show: func(_ context.Context, rule string, v shown) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.shown[rule] = v
			return nil
		},
		swept: func(_ context.Context, rule, id string, t sweepTally) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.swept[rule+" "+id] = t
			return nil
		},
	}
}

// run lets an org run until stop is called or the test ends. The loop is started anew if it is fenced off, as the leader does.
func (s *stage) run() (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			_ = s.org().run(ctx)
		}
	})
	stop = func() { cancel(); running.Wait() }
	s.Cleanup(stop)
	return stop
}

func (s *stage) counts(rule string) Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown[rule].Counts
}

func (s *stage) publish(kind protocol.EventKind, body any) {
	s.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		s.Fatal(err)
	}
	if _, err := s.conn.PublishEvent(s.Context(), acme, kind, map[string]string{"Content-Type": "application/json"}, text); err != nil {
		s.Fatal(err)
	}
}

// put publishes that an object was written. trail is its metadata; "": it has none, but is known to.
func (s *stage) put(key string, sequencer int, trail string) {
	s.Helper()
	s.publish(protocol.EventS3, created(key, sequencer, trail))
}

func created(key string, sequencer int, trail string) map[string]any {
	return notification("s3:ObjectCreated:Put", key, fmt.Sprintf("%016X", sequencer), fmt.Sprintf("etag-%d", sequencer), trail,
		time.Unix(1_700_000_000+int64(sequencer), 0))
}

func notification(name, key, sequencer, etag, trail string, at time.Time) map[string]any {
	metadata := map[string]string{"content-type": "text/plain"}
	if trail != "" {
		metadata["X-Amz-Meta-"+protocol.TrailHeader] = trail
	}
	return map[string]any{"Records": []any{map[string]any{
		"eventVersion": "2.0", "eventSource": "minio:s3", "eventTime": at.UTC().Format(time.RFC3339Nano), "eventName": name,
		"s3": map[string]any{
			"bucket": map[string]any{"name": "inbox"},
			"object": map[string]any{"key": url.QueryEscape(key), "size": 1, "eTag": etag, "sequencer": sequencer, "userMetadata": metadata},
		},
	}}}
}

const copyRule = `name: copy
match: {source: s3, bucket: inbox}
copy:
  src: {type: objectLocation, bucket: inbox, key: "{{key}}"}
  dest: {type: objectLocation, bucket: outbox, key: "to/{{key}}"}
`
