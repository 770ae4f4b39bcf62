package producer

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/producer/triggers"
	"github.com/copyfleet/copyfleet/protocol"
)

const fromHTTP = `{"src":{"type":"httpGetLocation","url":"https://src.test/a"},"dest":`

// TestTriggerItemsAreChecked as those of a call are, and each destination has an identity of its own that tells no secret.
func TestTriggerItemsAreChecked(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	s.call("one/admin", "PUT", "/v1/sandboxes/box", "").want(201, "")
	s.call("one/admin", "PUT", "/v1/sandboxes/far", `{"pool":"edge"}`).want(201, "")
	queue := NewTriggerQueue(Config{}, s.pipeline, s.registry)
	for _, want := range []struct{ item, pool, dest string }{
		{fromHTTP + `{"type":"objectLocation","bucket":"results","key":"a/b c"}}`, "default", "s3://results/a/b c"},
		{fromHTTP + `{"type":"sandboxFileLocation","sandbox":"box","path":"/in//x"}}`, "default", "sandbox:box/in/x"},
		{fromHTTP + `{"type":"sandboxFileLocation","sandbox":"far","path":"/x"},"id":"mine","conflict":"skip"}`, "edge", "sandbox:far/x"},
		{fromHTTP + `{"type":"httpPutLocation","url":"https://dst.test/p?sig=s3cret","headers":{"Authorization":"s3cret"}}}`, "default", "https://dst.test/p"},
		{
			fromHTTP + `{"type":"httpPostFormLocation","url":"https://dst.test/","form":{"key":"k","policy":"s3cret"},"fileField":"file"}}`,
			"default", "https://dst.test/#k",
		},
	} {
		got, err := queue.Check(t.Context(), "one", []byte(want.item))
		if err != nil || got.Pool != want.pool || got.Dest != want.dest || got.Item.Src.URL != "https://src.test/a" {
			t.Errorf("%s: %+v, %v", want.item, got, err)
		}
	}
	for item, code := range map[string]string{
		fromHTTP + `{"type":"objectLocation","bucket":"foreign","key":"k"}}`:                          faultNotGranted,
		fromHTTP + `{"type":"sandboxFileLocation","sandbox":"none","path":"/x"}}`:                     faultNoSandbox,
		fromHTTP + `{"type":"sandboxFileLocation","sandbox":"none","path":"/x"},"id":"x"}`:            faultNoSandbox,
		fromHTTP + `{"type":"sandboxFileLocation","sandbox":"box","path":"/../x"}}`:                   faultPathEscapes,
		fromHTTP + `{"type":"httpGetLocation","url":"https://dst.test/"}}`:                            faultNotDest,
		fromHTTP + `{"type":"objectLocation","bucket":"results","key":"k"},"trail":["one/in"]}`:       faultUnknown,
		fromHTTP + `{"type":"objectLocation","bucket":"results","key":"k"},"receipt":{}}`:             faultUnknown,
		fromHTTP + `{"type":"objectLocation","bucket":"results","key":"k"},"id":"` + "\\u0007" + `"}`: faultControl,
		fromHTTP + `{"type":"objectLocation","bucket":"results","key":"k"},"id":"","id":""}`:          "syntax",
		fromHTTP + `{"type":"httpPutLocation","url":"https://s3cret:s3cret@dst.test/"}}`:              faultUserinfo,
		`[]`: faultWrongType, ``: "syntax", `{"id":"` + strings.Repeat("x", maxLine) + `"}`: faultTooLong,
		`{"src":{"type":"sandboxFileLocation","sandbox":"box","path":"/x"},"dest":{"type":"sandboxFileLocation","sandbox":"far","path":"/x"}}`: faultMixedPools,
		`{"src":{"type":"sandboxFileLocation","sandbox":"box","path":"/x"},"dest":{"type":"sandboxFileLocation","sandbox":"box","path":"/x"}}`: faultSame,
	} {
		_, err := queue.Check(t.Context(), "one", []byte(item))
		refusal, ok := errors.AsType[*triggers.Refusal](err)
		if !ok || refusal.Code != code || refusal.Message == "" || strings.Contains(refusal.Message, "s3cret") {
			t.Errorf("%.200s: %v, want the code %s", item, err, code)
		}
	}
	if !queue.Granted("one", "results", "any/") || queue.Granted("one", "foreign", "") || queue.Granted("two", "results", "") {
		t.Error("the queue knows other grants than a call")
	}
	if _, err := queue.Check(t.Context(), "two", []byte(fromHTTP+`{"type":"sandboxFileLocation","sandbox":"box","path":"/x"}}`)); err == nil {
		t.Error("an item of another org may write to the sandbox")
	}
}

// TestTriggerSandboxesComeIntoBeing with the batch, and not before.
func TestTriggerSandboxesComeIntoBeing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	queue := NewTriggerQueue(Config{AutoSandboxes: true}, s.pipeline, s.registry)
	checked, err := queue.Check(t.Context(), "one", []byte(fromHTTP+`{"type":"sandboxFileLocation","sandbox":"fresh","path":"/x"}}`))
	if err != nil || checked.Pool != protocol.DefaultPool {
		t.Fatalf("%+v, %v", checked, err)
	}
	s.call("one/read", "GET", "/v1/sandboxes/fresh", "").want(404, CodeSandboxNotFound)
	batch := triggers.Batch{Org: "one", ID: protocol.NewBatchID(), Rule: "in", Version: 1, Pool: checked.Pool, Items: []protocol.ManifestItem{checked.Item}}
	if err := queue.Submit(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	s.call("one/read", "GET", "/v1/sandboxes/fresh", "").want(200, "")
	s.call("two/read", "GET", "/v1/sandboxes/fresh", "").want(404, CodeSandboxNotFound)
}

// ruled are items of a rule.
func ruled(n int) []protocol.ManifestItem {
	items := make([]protocol.ManifestItem, n)
	for i := range items {
		items[i] = asksFor(i)
		items[i].Trail = []string{"one/first", "one/in"}
	}
	return items
}

// TestTriggerBatch is one batch however often it is submitted, tells its rule, and is run again as any other: with the trail of its items, which
// keeps rules from going round in circles.
func TestTriggerBatch(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.grant()
	queue := NewTriggerQueue(Config{}, s.pipeline, s.registry)
	batch := triggers.Batch{
		Org: "one", ID: protocol.NewBatchID(), Rule: "in", Version: 3, Pool: protocol.DefaultPool, Options: rules.Options{Attempts: 7}, Items: ruled(3),
	}
	if ended, err := queue.Ended(t.Context(), "one", batch.ID, 0); err != nil || !ended {
		t.Errorf("an item of no batch has ended: %v, %v", ended, err)
	}
	for range 2 {
		if err := queue.Submit(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		batch.Items = ruled(2) // rendered in another way; the batch is what it was
	}
	s.knows("one", 1)
	shown := s.call("one/read", "GET", "/v1/batches/"+string(batch.ID), "").want(200, "")
	newDescription(t, apiDescription).check(t, "GET", "/v1/batches/{id}", shown)
	v := decode[batchView](shown)
	if v.Rule != "in" || v.RuleVersion != 3 || v.Label != "rule in" || v.Lane != protocol.Bulk || v.Attempts != 7 || v.Total != 3 {
		t.Errorf("%+v", v)
	}
	var a protocol.Acceptance
	if !s.get(s.batches, protocol.AcceptKey("one", batch.ID), &a) || !cmp.Equal(s.asked(&a), ruled(3)) {
		t.Errorf("%+v", a)
	}
	ended := func(want ...bool) {
		t.Helper()
		for i := range want {
			if got, err := queue.Ended(t.Context(), "one", batch.ID, i); err != nil || got != want[i] {
				t.Errorf("item %d has ended: %v, %v", i, got, err)
			}
		}
	}
	ended(false, false, false)
	s.tell(&a, append(receiptsOf(protocol.ItemFailed, 1), receiptsOf(protocol.ItemRetrying, 2)...))
	ended(false, true, false)
	if _, err := queue.Ended(t.Context(), "one", batch.ID, 3); err == nil {
		t.Error("an item that the batch has not has an outcome")
	}
	again := s.retry(batch.ID, ``)
	if got := s.asked(&again); !cmp.Equal(got, ruled(3)[1:2]) || again.Rule != "" || again.Label != "rule in" || again.RerunOf != batch.ID {
		t.Errorf("runs %+v again: %+v", got, again)
	}
	s.knows("one", 2)
	if got := s.listed("one/read", "rule=in", nil); !slices.Equal(got, []protocol.BatchID{batch.ID}) {
		t.Errorf("batches of the rule: %v", got)
	}
	s.tell(&a, receiptsOf(protocol.ItemSucceeded, 0, 1), rest)
	ended(true, true, true)
}

// TestTriggerOptions of a rule are those of its batches.
func TestTriggerOptions(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	queue := NewTriggerQueue(Config{}, s.pipeline, s.registry)
	batch := triggers.Batch{
		Org: "one", ID: protocol.NewBatchID(), Rule: "in", Version: 1, Pool: "edge",
		Options: rules.Options{Lane: protocol.Interactive, Label: "nightly"}, Items: ruled(protocol.PageSize),
	}
	if err := queue.Submit(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	var a protocol.Acceptance
	if !s.get(s.batches, protocol.AcceptKey("one", batch.ID), &a) || a.Lane != protocol.Interactive || a.Pool != "edge" || a.Label != "nightly" ||
		a.Options.Attempts != 0 || a.Total != protocol.PageSize {
		t.Errorf("%+v", a)
	}
	s.pipeline.backlog.limit = 1
	batch.ID = protocol.NewBatchID()
	if err := queue.Submit(t.Context(), batch); err == nil {
		t.Error("a batch beyond what may be queued was accepted")
	}
	if ended, err := queue.Ended(t.Context(), "one", batch.ID, 0); err != nil || !ended {
		t.Errorf("an item of a batch that was not accepted waits: %v, %v", ended, err)
	}
}
