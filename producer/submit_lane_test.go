package producer

import (
	"strings"
	"testing"
)

// TestInteractiveLane takes small batches only: a large one would stand before those that somebody waits for.
func TestInteractiveLane(t *testing.T) {
	t.Parallel()
	s := newIntakeStage(t)
	document := func(n int) string {
		return `"items":[` + strings.TrimSuffix(strings.Repeat(aItem+",", n), ",") + `]`
	}
	for name, tc := range map[string]struct {
		media, query, body string
		refused            bool
	}{
		"lines":             {ndjsonMedia, "?lane=interactive", lines(1000, nil), false},
		"lines, more":       {ndjsonMedia, "?lane=interactive", lines(1001, nil) + "not read\n", true},
		"lines, bulk":       {ndjsonMedia, "?lane=bulk", lines(1001, nil), false},
		"json":              {"application/json", "", `{"lane":"interactive",` + document(1000) + `}`, false},
		"json, more":        {"application/json", "", `{"lane":"interactive",` + document(1001) + `,"not":"read"}`, true},
		"json, lane behind": {"application/json", "", `{` + document(1001) + `,"lane":"interactive"}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.within(t)
			if !tc.refused {
				s.call("one/copy", "POST", "/v1/batches"+tc.query, tc.body, "Content-Type", tc.media).want(202, "")
				return
			}
			p := s.call("one/copy", "POST", "/v1/batches"+tc.query, tc.body, "Content-Type", tc.media).want(400, CodeInvalidRequest).problem()
			if p.Total != 1 || p.Errors[0].Pointer != "/lane" || p.Errors[0].Code != faultTooMany || !strings.Contains(p.Message, "bulk") {
				t.Errorf("%+v", p)
			}
		})
	}
}
