package worker

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// ask asks the workers for a plan.
func (f *fleet) ask(within time.Duration, items ...protocol.ManifestItem) protocol.PlanAnswer {
	f.Helper()
	q := protocol.PlanQuestion{Version: protocol.PlanVersion, Org: "ORG", Batch: protocol.NewBatchID(), Within: within}
	var err error
	if q.Sealed, err = f.sealer.SealPage(q.Org, q.Batch, 0, items); err != nil {
		f.Fatal(err)
	}
	return f.askRaw(q)
}

func (f *fleet) askRaw(q any) protocol.PlanAnswer {
	f.Helper()
	question, err := json.Marshal(q)
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(f.Context(), 5*time.Minute)
	defer cancel()
	var data []byte
	for { // the worker may not have subscribed yet
		data, err = f.conn.AskPlan(ctx, protocol.DefaultPool, question)
		if !errors.Is(err, broker.ErrNobody) {
			break
		}
	}
	if err != nil {
		f.Fatal(err)
	}
	var a protocol.PlanAnswer
	if err := json.Unmarshal(data, &a); err != nil {
		f.Fatal(err)
	}
	return a
}

func codes(planned protocol.PlannedItem) string {
	var list []string
	for _, p := range planned.Problems {
		list = append(list, string(p.Severity)+" "+p.Side+" "+p.Code)
	}
	return strings.Join(list, ", ")
}

func httpGet(url string) protocol.Location {
	return protocol.Location{Type: protocol.HTTPGet, URL: url}
}
func httpPut(url string) protocol.Location {
	return protocol.Location{Type: protocol.HTTPPut, URL: url}
}

// everything lists what is below a directory with modes, sizes and times.
func everything(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	if err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			all[path] = info.Mode().String() + " " + info.ModTime().String() + " " + strconv.FormatInt(info.Size(), 10)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestPlanTouchesNothing asks for a plan of every kind of item over a real queue, and looks for what it left behind: nothing.
func TestPlanTouchesNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	var whole, uploads atomic.Int32
	base := f.serve(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut || r.Method == http.MethodPost:
			uploads.Add(1)
		case r.Method == http.MethodGet && r.Header.Get("Range") == "":
			whole.Add(1)
		}
		switch r.URL.Path {
		case "/denied":
			w.WriteHeader(http.StatusForbidden)
		case "/none":
			w.WriteHeader(http.StatusNotFound)
		case "/headless":
			if r.Method == http.MethodHead {
				w.WriteHeader(http.StatusNotImplemented)
				return
			}
			w.Header().Set("Content-Range", "bytes 0-0/9")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write([]byte("x"))
		case "/huge":
			w.Header().Set("Content-Length", strconv.FormatInt(1<<60, 10))
		default:
			w.Header().Set("Accept-Ranges", "bytes")
			w.Header().Set("ETag", `"strong"`)
			w.Header().Set("Content-Length", "9")
		}
	})
	if err := os.MkdirAll(filepath.Join(f.dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.dir, "file"), []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := everything(t, filepath.Dir(filepath.Dir(f.dir)))
	soon := "?sig=s3cret&se=" + time.Now().Add(10*time.Minute).UTC().Format(time.RFC3339)
	rows := []struct {
		item   protocol.ManifestItem
		action protocol.PlanAction
		codes  string
	}{
		{protocol.ManifestItem{Src: httpGet(base + "/f"), Dest: inSandbox("/new/f")}, protocol.PlanCopy, ""},
		{protocol.ManifestItem{Src: httpGet(base + "/headless"), Dest: inSandbox("/file")}, protocol.PlanOverwrite, ""},
		{protocol.ManifestItem{Src: inSandbox("/file"), Dest: httpPut(base + "/up")}, protocol.PlanCopy, "note dest not_checked"},
		{protocol.ManifestItem{Src: httpGet(base + "/denied"), Dest: inSandbox("/x")}, protocol.PlanFail, "error src source_http_403"},
		{protocol.ManifestItem{Src: httpGet(base + "/none"), Dest: inSandbox("/dir")}, protocol.PlanFail, "error src source_http_404, error dest destination_is_directory"},
		{protocol.ManifestItem{Src: inSandbox("/none"), Dest: inSandbox("/x")}, protocol.PlanFail, "error src sandbox_file_not_found"},
		{protocol.ManifestItem{Src: httpGet("http://169.254.169.254/x"), Dest: inSandbox("/x")}, protocol.PlanFail, "error src forbidden_address"},
		{protocol.ManifestItem{Src: inSandbox("/file"), Dest: httpPut("http://10.1.2.3/x")}, protocol.PlanFail, "error dest forbidden_address"},
		{protocol.ManifestItem{Src: httpGet(base + "/huge"), Dest: inSandbox("/x")}, protocol.PlanFail, "error dest no_space"},
		{protocol.ManifestItem{Src: httpGet(base + "/f" + soon), Dest: inSandbox("/x")}, protocol.PlanCopy, "warning src url_expires_soon"},
		{protocol.ManifestItem{Src: inSandbox("/file"), Dest: httpPut(base + "/up?Signature=s3cret&Expires=1500000000")}, protocol.PlanFail, "error dest url_expired, note dest not_checked"},
		{protocol.ManifestItem{Src: httpGet(base + "/f"), Dest: inSandbox("/x"), Expect: protocol.Expect{Size: new(int64(8))}}, protocol.PlanFail, "error src source_size_mismatch"},
	}
	items := make([]protocol.ManifestItem, len(rows))
	for i := range rows {
		items[i] = rows[i].item
	}
	f.work()
	answer := f.ask(30*time.Second, items...)
	for tries := 1; tries < 10 && outOfTime(answer); tries++ { // for each end there are seconds, which a busy machine may need
		answer = f.ask(30*time.Second, items...)
	}
	if answer.Failure != nil || len(answer.Items) != len(rows) {
		t.Fatalf("%d items, failure %+v", len(answer.Items), answer.Failure)
	}
	for i, row := range rows {
		if got := answer.Items[i]; got.Action != row.action || codes(got) != row.codes {
			t.Errorf("%v to %v: %s (%s), want %s (%s)", row.item.Src, row.item.Dest, got.Action, codes(got), row.action, row.codes)
		}
	}
	first := answer.Items[0]
	if s := first.Src; s.Size == nil || *s.Size != 9 || !s.Ranges || !s.StrongETag || s.Status != 200 {
		t.Errorf("source %+v", s)
	}
	if status := answer.Items[3].Src.Status; status != 403 {
		t.Errorf("a source that is denied has status %d", status)
	}
	if d := first.Dest; !d.Checked || d.Exists == nil || *d.Exists || d.Makes != "directory" || d.FreeBytes == nil {
		t.Errorf("destination %+v", d)
	}
	if at := answer.Items[9].Src.ExpiresAt; time.Until(at) > 11*time.Minute || time.Until(at) < 8*time.Minute {
		t.Errorf("expires at %s", at)
	}
	if text, _ := json.Marshal(answer); strings.Contains(string(text), "s3cret") {
		t.Errorf("a secret is in %s", text)
	}
	if diff := cmp.Diff(before, everything(t, filepath.Dir(filepath.Dir(f.dir)))); diff != "" {
		t.Errorf("the plan changed something:\n%s", diff)
	}
	if whole.Load() != 0 || uploads.Load() != 0 {
		t.Errorf("%d whole GETs, %d uploads", whole.Load(), uploads.Load())
	}
}

// outOfTime reports whether there was no time for an end of an item.
func outOfTime(answer protocol.PlanAnswer) bool {
	return slices.ContainsFunc(answer.Items, func(i protocol.PlannedItem) bool {
		return slices.ContainsFunc(i.Problems, func(p protocol.PlanProblem) bool { return p.Failure.Class == protocol.Timeout })
	})
}

// TestPlanEndsInTime: what could not be looked at in time is unknown, and the rest is told.
func TestPlanEndsInTime(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	base := f.serve(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hang" {
			<-r.Context().Done()
		}
	})
	f.work()
	var answer protocol.PlanAnswer
	for _, within := range []time.Duration{2 * time.Second, 8 * time.Second, 30 * time.Second, time.Minute} {
		answer = f.ask(within,
			protocol.ManifestItem{Src: httpGet(base + "/hang"), Dest: inSandbox("/a")},
			protocol.ManifestItem{Src: httpGet(base + "/f"), Dest: inSandbox("/b")})
		if len(answer.Items) == 2 && answer.Items[1].Action != protocol.PlanUnknown {
			break // else a busy machine needs more time for what answers
		}
	}
	if len(answer.Items) != 2 || answer.Items[0].Action != protocol.PlanUnknown || codes(answer.Items[0]) != "warning  plan_timeout" || answer.Items[1].Action != protocol.PlanCopy {
		t.Errorf("answer %+v", answer)
	}
}

func TestPlanRefusals(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.work()
	for code, q := range map[string]any{
		"plan_unknown":    "no question",
		"seal_unreadable": protocol.PlanQuestion{Version: protocol.PlanVersion, Org: "ORG", Batch: protocol.NewBatchID(), Sealed: []byte("sealed by nobody"), Within: time.Second},
	} {
		if a := f.askRaw(q); a.Failure == nil || a.Failure.Code != code {
			t.Errorf("%+v, want %s", a, code)
		}
	}
	newer := protocol.PlanQuestion{Version: protocol.PlanVersion + 1}
	if a := f.askRaw(newer); a.Failure == nil || a.Failure.Code != "plan_unknown" {
		t.Errorf("%+v", a)
	}
}

func TestPlanIsBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	sealer, err := protocol.NewSealer(make([]byte, protocol.SealKeySize))
	if err != nil {
		t.Fatal(err)
	}
	silent := &silence{HTTPDriver: b.copier.drivers.HTTP}
	b.copier.drivers.HTTP = silent
	p := newPlanner(b.copier, sealer)
	q := protocol.PlanQuestion{Version: protocol.PlanVersion, Org: "ORG", Batch: protocol.NewBatchID(), Within: planMost}
	items := make([]protocol.ManifestItem, protocol.PageSize)
	for i := range items {
		items[i] = protocol.ManifestItem{Src: httpGet("http://192.0.2.1/"), Dest: inSandbox("/x")}
	}
	if q.Sealed, err = sealer.SealPage(q.Org, q.Batch, 0, items); err != nil {
		t.Fatal(err)
	}
	question, _ := json.Marshal(q)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	replies := make(chan protocol.PlanAnswer, planQuestions+1)
	for range planQuestions + 1 {
		p.take(ctx, question, func(data []byte) {
			var a protocol.PlanAnswer
			_ = json.Unmarshal(data, &a)
			replies <- a
		})
	}
	if first := <-replies; first.Failure == nil || first.Failure.Code != "plan_busy" {
		t.Errorf("one question too many: %+v", first.Failure)
	}
	cancel() // the others have a minute
	p.close()
	p.take(t.Context(), question, func([]byte) { t.Error("answered after the end") })
	if len(replies) != planQuestions || silent.most.Load() > planItems {
		t.Errorf("%d answers, %d items at once", len(replies), silent.most.Load())
	}
}

// silence gives sources that say nothing for as long as they may, and counts how many are asked at once. A server would notice too late
// that nobody waits for its answer any more.
type silence struct {
	HTTPDriver

	under, most atomic.Int32
}

func (s *silence) Get(string, map[string]string) storage.Source { return silent{s} }

type silent struct{ *silence }

func (s silent) Open(ctx context.Context) (*storage.Object, error) {
	_, err := s.Stat(ctx)
	return nil, err
}

func (s silent) Stat(ctx context.Context) (storage.Stat, error) {
	n := s.under.Add(1)
	defer s.under.Add(-1)
	for old := s.most.Load(); n > old && !s.most.CompareAndSwap(old, n); old = s.most.Load() {
	}
	<-ctx.Done()
	return storage.Stat{}, storage.Errorf(storage.Timeout, "silent", "look", "silence", "it says nothing")
}

func TestExpiresAt(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ query, want string }{
		{"X-Amz-Date=20261121T145000Z&X-Amz-Expires=600&X-Amz-Signature=x", "2026-11-21T15:00:00Z"},
		{"x-amz-date=20261121T145000Z&x-amz-expires=600", "2026-11-21T15:00:00Z"},
		{"X-Goog-Date=20261121T145000Z&X-Goog-Expires=604800", "2026-11-28T14:50:00Z"},
		{"AWSAccessKeyId=a&Signature=b&Expires=1795273200", "2026-11-21T15:00:00Z"},
		{"Expires=1795273200&Signature=b&Key-Pair-Id=c", "2026-11-21T15:00:00Z"},
		{"sv=2020&se=2026-11-21T15%3A00%3A00Z&sig=b", "2026-11-21T15:00:00Z"},
		{"se=2026-11-21T15:00Z&sig=b", "2026-11-21T15:00:00Z"},
		{"se=2026-11-21&sig=b", "2026-11-21T00:00:00Z"},
		{"X-Amz-Date=20261121T145000Z&X-Amz-Expires=9223372036854775807", ""},
		{"X-Amz-Date=20261121T145000Z&X-Amz-Expires=-1", ""},
		{"X-Amz-Date=99991231T235959Z&X-Amz-Expires=604800", ""}, // JSON knows no such year, and the answer would never come
		{"se=9999-12-31T23:59:59-01:00&sig=b", ""},
		{"se=2026-11-21", ""},
		{"Expires=1795273200", ""},
		{"Signature=b&Expires=soon", ""},
		{"X-Amz-Date=20261121&X-Amz-Expires=600", ""},
		{"X-Amz-Date=20261121T145000Z", ""},
		{"", ""},
	} {
		at, ok := expiresAt("https://h.test/k?" + row.query)
		if got := at.Format(time.RFC3339); ok != (row.want != "") || ok && got != row.want {
			t.Errorf("%s: %s, %t, want %s", row.query, got, ok, row.want)
		}
	}
}
