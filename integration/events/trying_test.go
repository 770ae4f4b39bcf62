package events

import (
	"encoding/json"
	"net/http"
	"testing"

	"github.com/copyfleet/copyfleet/producer/triggers"
)

// trying shows what rules would make of an event, those that there are and others, and makes nothing.
func trying(t *testing.T, f *fleet) {
	t.Helper()
	const rule = "tried"
	bucket := f.bucket(t)
	f.apply(t, f.toSandbox(rule, bucket))
	event := json.RawMessage(notification(record{bucket: bucket, key: "in/a b.txt", sequencer: "1", etag: "e"}, record{bucket: bucket, key: "../x", sequencer: "2", etag: "e"}))
	type result struct {
		triggers.Tested

		Copy struct {
			Dest struct {
				Path   string `json:"path"`
				Bucket string `json:"bucket"`
				Key    string `json:"key"`
			} `json:"dest"`
		} `json:"copy"`
	}
	try := func(body map[string]any) (matching []result) {
		t.Helper()
		answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/rules/test", nil, body)
		var said struct {
			Results []result `json:"results"`
		}
		if err == nil {
			err = json.Unmarshal(answer.Body, &said)
		}
		if err != nil || answer.Status != http.StatusOK {
			t.Fatalf("status %d, %v: %s", answer.Status, err, answer.Body)
		}
		for i := range said.Results {
			if said.Results[i].Matches {
				matching = append(matching, said.Results[i])
			}
		}
		return matching
	}
	for range 2 { // nothing of the first time is remembered
		got := try(map[string]any{"event": event})
		if len(got) != 2 || got[0].Rule != rule || got[0].Code != "" || got[0].Copy.Dest.Path != "/"+rule+"/in/a b.txt" || got[1].Code != "escapes" || got[1].Message == "" {
			t.Errorf("the rule would make %+v", got)
		}
	}
	got := try(map[string]any{"event": event, "rules": toBucket("another", bucket, "in/", bucket, "out/")})
	if len(got) != 1 || got[0].Rule != "another" || got[0].Copy.Dest.Bucket != bucket || got[0].Copy.Dest.Key != "out/a b.txt" {
		t.Errorf("another rule would make %+v", got)
	}
	f.copied(t, rule, 0)
	if v, err := f.view(t.Context(), rule); err != nil || v.Counts.Matched != 0 {
		t.Errorf("the counts are %+v, %v", v.Counts, err)
	}
}
