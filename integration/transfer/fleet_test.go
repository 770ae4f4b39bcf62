package transfer

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/internal/testkit/miniotest"
	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

const (
	settles = 300 * time.Second // until everything has its outcome
	// comes is how long something may take that must happen. It may be a hundred MiB, with a race detector, on a machine that has other things to
	// do; and where parts that wait for their source have all slots, other items get one when those were given up twice, each time after the
	// idle timeout.
	comes = settles
	mib   = 1 << 20
)

// small makes little files into ones of many parts, and has them shared soon.
var small = []string{"PART_THRESHOLD=1MiB", "PART_SIZE=1MiB", "SPREAD_AFTER=100ms", "SLOTS=8"}

// roomy is small with slots for parts that wait for their source, too.
var roomy = append(slices.Clip(small), "SLOTS=48")

// alone is small without sharing.
var alone = []string{"PART_THRESHOLD=1MiB", "PART_SIZE=1MiB", "SPREAD_AFTER=1h", "SLOTS=8"}

// fleet is a fleet with a source, a sink and a store.
type fleet struct {
	*mixtest.Fleet

	*source

	sink  *sink
	minio *miniotest.Server
	boxes string // the bucket that sandboxes are kept in, below "boxes/"; "": they are directories
	// unread says that the store may be away when an object is to be read back for its digest, which is missing in its receipt then.
	unread bool
	parts  jetstream.KeyValue
	js     jetstream.JetStream

	nats, api, aggregator *mixtest.Process
	workers               []*mixtest.Process
}

// newBoxFleet is a fleet that keeps its sandboxes in a bucket.
func newBoxFleet(t *testing.T, minio *miniotest.Server, workers int, env ...string) *fleet {
	t.Helper()
	boxes := minio.NewBucket(t)
	f := newFleet(t, minio, workers, append(env, "SANDBOXES=s3://"+boxes+"/boxes")...)
	f.boxes = boxes
	return f
}

// newFleet starts NATS, the front, the aggregator and so many workers.
func newFleet(t *testing.T, minio *miniotest.Server, workers int, env ...string) *fleet {
	t.Helper()
	f := &fleet{Fleet: mixtest.NewRoles(t, minio), source: newSource(t), sink: newSink(t), minio: minio}
	for _, setting := range env { // after those of the fleet itself, which they may replace
		f.Setenv("COPYFLEET_" + setting)
	}
	f.nats = f.StartNATS(t)
	f.api = f.Start(t, "api")
	f.aggregator = f.Start(t, "aggregator")
	for range workers {
		f.startWorker(t)
	}
	f.js = f.JetStream(t)
	var err error
	if f.parts, err = f.js.KeyValue(t.Context(), broker.PartBucket); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fleet) startWorker(t *testing.T, env ...string) *mixtest.Process {
	t.Helper()
	p := f.Start(t, "worker", env...)
	f.workers = append(f.workers, p)
	return p
}

// item is a copy with what must come of it.
type item struct {
	id      string
	src     map[string]any
	dest    map[string]any
	content content
	more    map[string]any // members beside those
}

func (f *fleet) from(path string) map[string]any { return mixtest.FromURL(f.source.URL + path) }

func putTo(url string) map[string]any { return map[string]any{"type": "httpPutLocation", "url": url} }

func postTo(url string) map[string]any {
	return map[string]any{"type": "httpPostFormLocation", "url": url, "form": map[string]any{}}
}

// submit sends items as a batch and returns its id.
func (f *fleet) submit(t *testing.T, query string, items ...item) string {
	t.Helper()
	var lines bytes.Buffer
	for _, i := range items {
		line := map[string]any{"id": i.id, "src": f.placed(i.src), "dest": f.placed(i.dest)}
		maps.Copy(line, i.more)
		if err := json.NewEncoder(&lines).Encode(line); err != nil {
			t.Fatal(err)
		}
	}
	header := map[string]string{"Idempotency-Key": t.Name() + items[0].id}
	var answer mixtest.Answer
	var err error
	if !mixtest.Until(comes, func() bool {
		answer, err = f.API.Post(t.Context(), "/v1/batches?"+query, mixtest.NDJSON, header, bytes.NewReader(lines.Bytes()))
		return err == nil && (answer.Status == http.StatusAccepted || answer.Status/100 == 4)
	}) || answer.Status != http.StatusAccepted {
		t.Fatalf("submit: %d %v %s", answer.Status, err, answer.Body)
	}
	return answer.Batch()
}

// placed names the sandbox of a file, as a batch wants it, if it is not named already.
func (f *fleet) placed(location map[string]any) map[string]any {
	if location["type"] != string(protocol.SandboxFile) || location["sandbox"] != nil {
		return location
	}
	return map[string]any{"type": location["type"], "path": location["path"], "sandbox": f.Sandbox}
}

// act cancels, pauses or resumes a batch.
func (f *fleet) act(t *testing.T, id, what string) {
	t.Helper()
	answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/batches/"+id+"/"+what, nil, nil)
	if err != nil || answer.Status/100 != 2 {
		t.Fatalf("%s %s: %d %v %s", what, id, answer.Status, err, answer.Body)
	}
}

// check waits for the end of a batch all of whose items must succeed, and holds it to the invariant.
func (f *fleet) check(t *testing.T, id string, items ...item) []protocol.Receipt {
	t.Helper()
	f.API.WaitFinal(t, id, settles)
	receipts, err := f.API.Receipts(t.Context(), id)
	if err != nil || len(receipts) != len(items) {
		t.Fatalf("%d receipts of %d items, %v", len(receipts), len(items), err)
	}
	for n, i := range items {
		f.checkItem(t, &receipts[n], i)
	}
	f.nothingLeft(t, items...)
	return receipts
}

func (f *fleet) checkItem(t *testing.T, r *protocol.Receipt, i item) {
	t.Helper()
	if r.State != protocol.ItemSucceeded || r.ID != i.id {
		t.Errorf("item %q (%s): %s, %+v", i.id, r.ID, r.State, r.Failure)
		return
	}
	undigested := r.Method == protocol.MethodServerCopy || f.unread && r.Method == protocol.MethodParts && i.dest["key"] != nil
	if r.Bytes != i.content.size || r.SHA256 != i.content.sha256() && (r.SHA256 != "" || !undigested) {
		t.Errorf("item %s: the receipt tells %d bytes, %s; the source had %d, %s", i.id, r.Bytes, r.SHA256, i.content.size, i.content.sha256())
	}
	size, sum := f.arrived(t, i)
	if size != i.content.size || sum != i.content.sha256() {
		t.Errorf("item %s: the destination holds %d bytes, %s; want %d, %s", i.id, size, sum, i.content.size, i.content.sha256())
	}
}

// arrived is what a destination holds; -1: nothing.
func (f *fleet) arrived(t *testing.T, i item) (int64, string) {
	t.Helper()
	text := func(name string) string { s, _ := i.dest[name].(string); return s }
	switch protocol.LocationType(text("type")) {
	case protocol.SandboxFile:
		if f.boxes != "" {
			return f.object(t, f.boxes, f.boxKey(i.dest))
		}
		file, err := os.Open(f.OnDisk(text("path")))
		if err != nil {
			return -1, err.Error()
		}
		defer file.Close()
		return measure(file)
	case protocol.Object:
		return f.object(t, text("bucket"), text("key"))
	case protocol.HTTPPut, protocol.HTTPPostForm:
		u, err := url.Parse(text("url"))
		if err != nil {
			return -1, err.Error()
		}
		taken := f.sink.at(u.Path)
		if len(taken) == 0 {
			return -1, "nothing was uploaded"
		}
		last := taken[len(taken)-1]
		return last.size, last.sha256
	case protocol.HTTPGet, protocol.StagedUpload, protocol.SandboxTree:
	}
	return -1, "no destination"
}

// boxKey is where a file of a sandbox is kept in the bucket of sandboxes.
func (f *fleet) boxKey(location map[string]any) string {
	return fmt.Sprint("boxes/", f.API.Org, "/", f.placed(location)["sandbox"], location["path"])
}

func (f *fleet) object(t *testing.T, bucket, key string) (int64, string) {
	t.Helper()
	object, err := f.client(t).GetObject(t.Context(), bucket, key, minio.GetObjectOptions{})
	if err != nil {
		return -1, err.Error()
	}
	defer object.Close()
	if _, err := object.Stat(); err != nil {
		return -1, err.Error()
	}
	return measure(object)
}

func measure(r io.Reader) (int64, string) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return n, err.Error()
	}
	return n, hex.EncodeToString(h.Sum(nil))
}

// client keeps no connection, so that no goroutine of it outlives a call.
func (f *fleet) client(t *testing.T) *minio.Client {
	t.Helper()
	client, err := minio.New(strings.TrimPrefix(f.minio.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(f.minio.AccessKey, f.minio.SecretKey, ""), Region: "us-east-1", BucketLookup: minio.BucketLookupPath,
		Transport: &http.Transport{DisableKeepAlives: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// beginUpload begins a multipart upload and returns its id.
func (f *fleet) beginUpload(t *testing.T, key string) string {
	t.Helper()
	core := minio.Core{Client: f.client(t)}
	upload, err := core.NewMultipartUpload(t.Context(), f.Bucket, key, minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return upload
}

// nothingLeft fails the test if a hidden file, an unfinished upload or a record of parts stays.
func (f *fleet) nothingLeft(t *testing.T, items ...item) {
	t.Helper()
	var left []string
	if !mixtest.Until(comes, func() bool { left = f.left(t, items); return len(left) == 0 }) {
		t.Errorf("left behind: %q", left)
	}
	f.CheckNothingHidden(t)
}

func (f *fleet) left(t *testing.T, items []item) []string {
	t.Helper()
	var left []string
	if n := f.Hidden(); n > 0 {
		left = append(left, fmt.Sprint(n, " hidden files"))
	}
	keys, err := f.parts.ListKeys(t.Context())
	if err != nil {
		return []string{err.Error()}
	}
	for key := range keys.Keys() {
		left = append(left, key)
	}
	for _, i := range items {
		bucket, key := f.Bucket, ""
		switch path, _ := i.dest["path"].(string); {
		case path == "":
			key, _ = i.dest["key"].(string)
		case f.boxes != "":
			bucket, key = f.boxes, f.boxKey(i.dest)
		}
		if key == "" {
			continue
		}
		for upload := range f.client(t).ListIncompleteUploads(t.Context(), bucket, key, true) {
			left = append(left, fmt.Sprint(upload.Key, " ", upload.UploadID, " ", upload.Err))
		}
	}
	return left
}

// states are the parts that are known of an item.
func (f *fleet) states(t *testing.T, batch string, index int) []protocol.PartState {
	t.Helper()
	var all []protocol.PartState
	for page := 0; ; page++ {
		entry, err := f.parts.Get(t.Context(), protocol.PartPageKey(protocol.OrgID(f.API.Org), protocol.BatchID(batch), index, page))
		if err != nil {
			return all
		}
		value, err := broker.Unpack(entry.Value())
		if err != nil {
			t.Fatal(err)
		}
		var p protocol.PartPage
		if err := json.Unmarshal(value, &p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p.Parts...)
	}
}

// stored waits until so many parts of an item are stored, and returns them.
func (f *fleet) stored(t *testing.T, batch string, index, n int) []protocol.PartState {
	t.Helper()
	var states []protocol.PartState
	if !mixtest.Until(comes, func() bool { states = f.states(t, batch, index); return len(states) >= n }) {
		receipts, err := f.API.Receipts(t.Context(), batch)
		t.Fatalf("%d parts of item %d are known within %s, must be %d; %+v %v", len(states), index, comes, n, receipts, err)
	}
	return states
}

// plan is the plan of an item; false: there is none.
func (f *fleet) plan(t *testing.T, batch string, index int) (protocol.PartPlan, bool) {
	t.Helper()
	var plan protocol.PartPlan
	entry, err := f.parts.Get(t.Context(), protocol.PartPlanKey(protocol.OrgID(f.API.Org), protocol.BatchID(batch), index))
	if err != nil {
		return plan, false
	}
	value, err := broker.Unpack(entry.Value())
	if err == nil {
		err = json.Unmarshal(value, &plan)
	}
	if err != nil {
		t.Fatal(err)
	}
	return plan, true
}

// holds returns the workers that claim a part of an item, or the item itself.
func (f *fleet) holds(t *testing.T, batch string, index int, part bool) []*mixtest.Process {
	t.Helper()
	kv, err := f.js.KeyValue(t.Context(), broker.ClaimBucket)
	if err != nil {
		t.Fatal(err)
	}
	var list []*mixtest.Process
	for _, w := range f.workers {
		keys, err := kv.ListKeys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for key := range keys.Keys() {
			if f.claims(t, kv, key, w, batch, index, part) {
				list = append(list, w)
			}
		}
	}
	return list
}

func (f *fleet) claims(t *testing.T, kv jetstream.KeyValue, key string, w *mixtest.Process, batch string, index int, part bool) bool {
	t.Helper()
	entry, err := kv.Get(t.Context(), key)
	if err != nil {
		return false
	}
	value, err := broker.Unpack(entry.Value())
	var claim protocol.Claim
	if err == nil {
		err = json.Unmarshal(value, &claim)
	}
	if err != nil {
		t.Fatal(err)
	}
	return isOf(claim.Worker, w) && slices.ContainsFunc(claim.Held, func(h protocol.HeldClaim) bool {
		return string(h.Ref.Batch) == batch && h.Ref.Index == index && (h.Ref.Part > 0) == part
	})
}

// isOf reports whether a worker's id is that of a process: HOST-PID-RANDOM.
func isOf(worker string, p *mixtest.Process) bool {
	fields := strings.Split(worker, "-")
	return len(fields) >= 3 && fields[len(fields)-2] == strconv.Itoa(p.PID())
}

// resumed sums up what the receipts say was not moved again.
func resumed(receipts []protocol.Receipt) int64 {
	var sum int64
	for i := range receipts {
		sum += receipts[i].ResumedFrom
	}
	return sum
}
