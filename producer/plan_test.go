package producer

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// planned answers plans as a worker would, with what look says of each item.
func (s *stage) planned(look func(protocol.ManifestItem) protocol.PlannedItem) (questions *atomic.Int32) {
	s.Helper()
	questions = &atomic.Int32{}
	stop, err := s.conn.AnswerPlans(protocol.DefaultPool, func(question []byte, reply func([]byte)) {
		n := questions.Add(1)
		if n == 1 { // who has too much to do is asked again
			data, _ := protocol.Encode(protocol.PlanAnswer{Version: 1, Failure: &protocol.Failure{Class: protocol.Throttled, Code: "plan_busy"}})
			reply(data)
			return
		}
		var q protocol.PlanQuestion
		if err := json.Unmarshal(question, &q); err != nil {
			s.Error(err)
		}
		items, err := s.sealer.OpenPage(q.Org, q.Batch, 0, q.Sealed)
		if err != nil {
			s.Error(err)
		}
		if q.Within <= 0 {
			s.Errorf("%s are left", q.Within)
		}
		answer := protocol.PlanAnswer{Version: 1}
		for _, it := range items {
			answer.Items = append(answer.Items, look(it))
		}
		data, _ := protocol.Encode(answer)
		reply(data)
	})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(stop)
	return questions
}

// plan calls the hook with items.
func (s *stage) plan(items []protocol.ManifestItem) (answer, error) {
	at := 0
	next := func() (protocol.ManifestItem, error) {
		if at == len(items) {
			return protocol.ManifestItem{}, io.EOF
		}
		at++
		return items[at-1], nil
	}
	w := httptest.NewRecorder()
	var err error
	h := s.server.authenticated(RoleCopy, func(w http.ResponseWriter, r *http.Request) {
		err = s.server.planBatch(w, r, next, func() string { return protocol.DefaultPool })
	})
	r := httptest.NewRequestWithContext(s.Context(), http.MethodPost, "/v1/batches?plan=true", nil)
	r.Header.Set("Authorization", "Bearer "+s.keys["one/copy"])
	h(w, r)
	return answer{s.T, w.Code, w.Header(), w.Body.Bytes()}, err
}

func planItems(n int) []protocol.ManifestItem {
	items := make([]protocol.ManifestItem, n)
	for i := range items {
		items[i] = protocol.ManifestItem{
			ID: strconv.Itoa(i), Src: protocol.Location{Type: protocol.HTTPGet, URL: "https://h.test/" + strconv.Itoa(i) + "?token=s3cret"},
			Dest: protocol.Location{Type: protocol.SandboxFile, Sandbox: "box", Path: "/" + strconv.Itoa(i)},
		}
	}
	return items
}

func TestPlanOfABatch(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	size := int64(7)
	s.planned(func(it protocol.ManifestItem) protocol.PlannedItem {
		p := protocol.PlannedItem{Action: protocol.PlanCopy}
		p.Src.Size = &size
		switch n, _ := strconv.Atoi(it.ID); {
		case n%10 == 0:
			p.Action = protocol.PlanFail
			p.Problems = []protocol.PlanProblem{{Severity: protocol.PlanError, Side: "src", Failure: protocol.Failure{Class: protocol.NotFound, Code: "source_http_404", Message: "gone"}}}
		case n%10 == 1:
			p.Action, p.Dest.Exists = protocol.PlanOverwrite, new(bool)
			p.Src.Size = nil
		}
		return p
	})
	got, err := s.plan(planItems(1000))
	if err != nil {
		t.Fatal(err)
	}
	got.want(200, "")
	newDescription(t, apiDescription).validate(t, got.body, "components", "schemas", "Plan")
	view := decode[planView](got)
	if want := (planSummaryView{Total: 1000, Copy: 800, Overwrite: 100, Fail: 100, Bytes: 800 * 7, UnknownSizes: 100}); view.Summary != want {
		t.Errorf("summary %+v, want %+v", view.Summary, want)
	}
	for i, it := range view.Items {
		if it.Index != i || it.ID != strconv.Itoa(i) || it.Src.Location != "https://h.test/"+it.ID || it.Dest.Location != "sandbox box:/"+it.ID {
			t.Fatalf("item %d is %+v", i, it)
		}
	}
	if strings.Contains(string(got.body), "s3cret") {
		t.Error("the plan tells a secret")
	}
	if all, err := s.batches.List(t.Context(), ">"); err != nil || len(all) != 0 {
		t.Errorf("a plan left %d records, %v", len(all), err)
	}
}

func TestPlanRefusals(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, row := range []struct {
		items int
		err   error
		code  Code
	}{{0, errPlanEmpty, CodeInvalidRequest}, {1001, errPlanTooLarge, CodePlanTooLarge}, {1, broker.ErrNobody, CodeNoWorker}, {1000, broker.ErrNobody, CodeNoWorker}} {
		_, err := s.plan(planItems(row.items))
		if !errors.Is(err, row.err) {
			t.Errorf("%d items: %v, want %v", row.items, err, row.err)
			continue
		}
		if p := planRefusal(err); p == nil || p.Code != row.code {
			t.Errorf("%d items: %+v, want %s", row.items, p, row.code)
		}
	}
	if p := planRefusal(io.ErrUnexpectedEOF); p != nil {
		t.Errorf("an error of the body is not the plan's: %+v", p)
	}
}

// TestPlanOfLargeItems: what does not fit one message is asked for in several.
func TestPlanOfLargeItems(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	questions := s.planned(func(protocol.ManifestItem) protocol.PlannedItem {
		return protocol.PlannedItem{Action: protocol.PlanCopy}
	})
	items := planItems(protocol.PlanPage)
	for i := range items {
		var noise strings.Builder
		for range 600 {
			noise.WriteString(NewAPIKey()) // does not compress
		}
		items[i].Src.Headers = map[string]string{"X-Large": noise.String()}
	}
	got, err := s.plan(items)
	if err != nil {
		t.Fatal(err)
	}
	if view := decode[planView](got); view.Summary.Copy != len(items) {
		t.Errorf("summary %+v", view.Summary)
	}
	if n := questions.Load(); n < 3 {
		t.Errorf("%d questions", n)
	}
}

// TestPlanThatNobodyUnderstands: what the workers could not look at is unknown, and the reason is told.
func TestPlanThatNobodyUnderstands(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	stop, err := s.conn.AnswerPlans(protocol.DefaultPool, func(_ []byte, reply func([]byte)) { reply([]byte(`{"v":1,"items":[]}`)) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	got, err := s.plan(planItems(3))
	if err != nil {
		t.Fatal(err)
	}
	view := decode[planView](got)
	if view.Summary.Unknown != 3 || view.Items[2].Action != protocol.PlanUnknown || view.Items[2].Problems[0].Code != "plan_unknown" {
		t.Errorf("%s", got.body)
	}
}
