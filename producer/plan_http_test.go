package producer

import (
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/protocol"
)

// TestPlanOverHTTP asks for plans as a caller does, in every format, and looks for what they left: nothing, not even a sandbox that
// would be made.
func TestPlanOverHTTP(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	s.server.cfg.AutoSandboxes = true
	d := newDescription(t, apiDescription)
	s.planned(func(protocol.ManifestItem) protocol.PlannedItem {
		return protocol.PlannedItem{Action: protocol.PlanCopy}
	})
	s.records.mu.Lock()
	made := len(s.records.values)
	s.records.mu.Unlock()
	ask := func(media, query, body string) answer {
		a := s.call("one/copy", "POST", "/v1/batches?plan=true"+query, body, "Content-Type", media)
		d.check(t, "POST", "/v1/batches", a)
		return a
	}
	for _, tc := range []struct{ name, media, query, body string }{
		{"json", "application/json", "", `{"items":[` + aItem + `,` + in("fresh", bItem) + `],"webhook":{"url":"https://h.test/"},"canary":1}`},
		{"ndjson", ndjsonMedia, "", aItem + "\n" + in("fresh", bItem) + "\n"},
		{"csv", "text/csv", "&sandbox=fresh", "https://a.test/1,/1\nhttps://a.test/2,/2\n"},
		{"tsv", "text/tab-separated-values", "&bucket=results", "TsvHttpData-1.0\nhttps://a.test/1\nhttps://a.test/2\n"},
	} {
		view := decode[planView](ask(tc.media, tc.query, tc.body).want(200, ""))
		if view.Summary.Total != 2 || view.Summary.Copy != 2 || view.Items[1].Src.Location != "https://a.test/2" {
			t.Errorf("%s: %+v", tc.name, view)
		}
	}
	for _, tc := range []struct {
		name, body string
		status     int
		code       Code
	}{
		{"too many", strings.Repeat(aItem+"\n", maxPlanItems+1), 413, CodePlanTooLarge},
		{"a bad line", aItem + "\n{\n", 400, CodeInvalidRequest},
		{"nothing", "\n", 400, CodeInvalidRequest},
		{"a bucket of somebody else", strings.Replace(aItem, `"httpGetLocation","url":"https://a.test/1"`, `"objectLocation","bucket":"secret","key":"k"`, 1), 403, CodeBucketNotGranted},
		{"a pool without workers", in("gpubox", aItem), 503, CodeNoWorker},
	} {
		t.Log(tc.name)
		ask(ndjsonMedia, "", tc.body).want(tc.status, tc.code)
	}
	s.call("one/read", "POST", "/v1/batches?plan=true", aItem, "Content-Type", ndjsonMedia).want(403, CodeForbidden)

	if all, err := s.batches.List(t.Context(), ">"); err != nil || len(all) != 0 {
		t.Errorf("plans left %d records, %v", len(all), err)
	}
	s.records.mu.Lock()
	defer s.records.mu.Unlock()
	if len(s.records.values) != made {
		t.Errorf("plans left %d registry records", len(s.records.values)-made)
	}
}
