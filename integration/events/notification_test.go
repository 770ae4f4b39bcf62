package events

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"github.com/sourcegraph/conc/pool"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// record is what happened to one object.
type record struct {
	event     string // "": it was put
	bucket    string
	key       string
	version   string
	sequencer string
	etag      string
	size      int
}

// notification is what S3 sends of records.
func notification(records ...record) string {
	list := make([]any, len(records))
	for i, r := range records {
		if r.event == "" {
			r.event = "ObjectCreated:Put"
		}
		object := map[string]any{"key": url.QueryEscape(r.key), "size": r.size, "sequencer": r.sequencer, "eTag": r.etag}
		if r.version != "" {
			object["versionId"] = r.version
		}
		list[i] = map[string]any{
			"eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "us-east-1", "eventTime": "2026-01-02T03:04:05.678Z", "eventName": r.event,
			"s3": map[string]any{"s3SchemaVersion": "1.0", "configurationId": "test", "bucket": map[string]any{"name": r.bucket}, "object": object},
		}
	}
	body, err := json.Marshal(map[string]any{"Records": list})
	if err != nil {
		panic(err) // there are only strings and numbers in it
	}
	return string(body)
}

// sequencer is the n-th of a key. Those of S3 have no leading zeros: the lengths differ.
func sequencer(n int) string { return fmt.Sprintf("%X", 0xFF0+n*7) }

// notify sends a notification to the webhook or fails the test.
func (f *fleet) notify(t *testing.T, records ...record) {
	t.Helper()
	answer := f.send(t, f.API, "/v1/events/s3", map[string]string{"Content-Type": "application/json"}, notification(records...))
	var said struct {
		Events int `json:"events"`
	}
	if err := json.Unmarshal(answer.Body, &said); err != nil || answer.Status != http.StatusAccepted || said.Events != len(records) {
		t.Fatalf("a notification of %d events: status %d, %v: %s", len(records), answer.Status, err, answer.Body)
	}
}

// publisher sends notifications until each was taken, half of them to the webhook and half to NATS: what got no answer is sent again, and may have come twice.
type publisher struct {
	fleet *fleet
	again bool // sends one in ten once more, whatever the answer was
}

// send sends all bodies in a random order, some at once, and returns how many were sent once more on purpose.
func (p publisher) send(ctx context.Context, t *testing.T, bodies []string) int {
	t.Helper()
	js := p.fleet.JetStream(t)
	subject := protocol.EventSubject(protocol.EventS3, protocol.OrgID(p.fleet.API.Org))
	repeated := 0
	all := slices.Clone(bodies)
	if p.again {
		repeated = max(len(bodies)/10, 1)
		all = append(all, bodies[:repeated]...)
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	sending := pool.New().WithErrors().WithMaxGoroutines(publishers)
	for i, body := range all {
		sending.Go(func() error {
			var last error
			if !mixtest.Until(comes, func() bool {
				ctx, cancel := context.WithTimeout(ctx, answers)
				defer cancel()
				if i%2 == 0 {
					_, last = js.Publish(ctx, subject, []byte(body))
					return last == nil
				}
				var answer mixtest.Answer
				answer, last = post(ctx, p.fleet.API, "/v1/events/s3", nil, body)
				if last == nil && answer.Status != http.StatusAccepted {
					last = fmt.Errorf("status %d: %s", answer.Status, answer.Body)
				}
				return last == nil
			}) {
				return fmt.Errorf("a notification was not taken: %w", last)
			}
			return nil
		})
	}
	if err := sending.Wait(); err != nil {
		t.Error(err)
	}
	return repeated
}

// objects puts n objects into a bucket of which nobody tells, and returns a notification of each.
func (f *fleet) objects(t *testing.T, n int) (bucket string, bodies []string) {
	t.Helper()
	bucket = f.bucket(t)
	bodies = make([]string, n)
	putting := pool.New().WithErrors().WithMaxGoroutines(publishers)
	for i := range bodies {
		putting.Go(func() error {
			key, content := objectName(i), objectContent(i)
			etag, err := f.put(t.Context(), bucket, key, []byte(content))
			bodies[i] = notification(record{bucket: bucket, key: key, sequencer: sequencer(i), etag: etag, size: len(content)})
			return err
		})
	}
	if err := putting.Wait(); err != nil {
		t.Fatal(err)
	}
	return bucket, bodies
}

func objectName(i int) string    { return fmt.Sprintf("d%d/object %d", i%7, i) }
func objectContent(i int) string { return fmt.Sprintf("this is object %d", i) }

// holdsAll fails the test unless a rule has copied n objects, each once, to where their contents are.
func (f *fleet) holdsAll(t *testing.T, rule string, n int) {
	t.Helper()
	f.copied(t, rule, n)
	for i := range n {
		f.holds(t, rule, objectName(i), objectContent(i))
	}
	f.CheckNothingHidden(t)
}
