package volume

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/protocol"
)

// tenant makes a key of another org, whose files lie in a directory of their own.
func tenant(t *testing.T, f *mixtest.Fleet, org string) *mixtest.World {
	t.Helper()
	answer, err := f.API.Call(t.Context(), http.MethodPost, "/v1/keys", nil, map[string]any{"org": org, "role": "copy", "name": "second"})
	var made struct {
		Key string `json:"key"`
	}
	if err != nil || answer.Status != http.StatusCreated || json.Unmarshal(answer.Body, &made) != nil {
		t.Fatalf("a key of %s: %d %v %s", org, answer.Status, err, answer.Body)
	}
	w := *f.World
	w.API = mixtest.API{URL: f.API.URL, Key: made.Key, Org: org}
	w.Dir = filepath.Join(filepath.Dir(filepath.Dir(f.Dir)), org, f.Sandbox)
	if err := os.MkdirAll(w.Dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return &w
}

// neighbor is an org whose items are on the same shard as those of another, or are not.
func neighbor(org string, same bool) string {
	for i := 0; ; i++ {
		if name := fmt.Sprint("ORG-second-", i); (protocol.ShardOf(protocol.OrgID(name)) == protocol.ShardOf(protocol.OrgID(org))) == same {
			return name
		}
	}
}

// TestSecondTenant has one tenant queue 50,000 slow items. Single items of others, as a call and as a batch, end while its first
// run.
func TestSecondTenant(t *testing.T) {
	t.Parallel()
	const queued, first = 50_000, 3000
	f, _ := up(t, "SLOTS=16", "FILE_SYNC=off")
	url := f.GiveSlowly("/get/load", []byte("slow"), 20*time.Millisecond)
	load := make(mixtest.Batch, queued)
	for i := range load {
		load[i] = mixtest.Copy{ID: fmt.Sprint(i), Src: mixtest.FromURL(url), Dest: mixtest.ToSandbox(fmt.Sprint("/load/", i))}
	}
	worlds := map[string]*mixtest.World{}
	for name, same := range map[string]bool{"same": true, "other": false} {
		worlds[name] = tenant(t, f, neighbor(f.API.Org, same))
	}
	id := f.Submit(t, load, "")
	if !mixtest.Until(limit, func() bool { return f.Asked("/get/load") > 50 }) {
		t.Fatal("the load does not run")
	}
	for name, w := range worlds {
		before := f.Asked("/get/load")
		single := w.Small("call-"+name, 1)
		answer, err := w.API.Copy(t.Context(), w.Sandbox, nil, single.Files())
		if err != nil || answer.Status != http.StatusOK {
			t.Fatalf("%d %v %s", answer.Status, err, answer.Body)
		}
		call := f.Asked("/get/load") - before
		w.Check(t, answer.Batch(), single, limit)
		before = f.Asked("/get/load")
		single = w.Small("batch-"+name, 1)
		w.Check(t, w.Submit(t, single, ""), single, limit)
		bulk := f.Asked("/get/load") - before
		if call > first || bulk > first {
			t.Errorf("on %s shard, the call waited for %d of %d items, the batch for %d", name, call, queued, bulk)
		}
		t.Logf("on %s shard, %d of %d queued items of another tenant ran before the call had ended, %d before the batch had", name, call, queued, bulk)
	}
	told := f.API.Act(t, id, "cancel")
	if told.NotStarted+told.Midway+told.Ended != queued || told.NotStarted == 0 {
		t.Errorf("the load was over, or the numbers do not add up: %+v", told)
	}
	view := f.API.WaitFinal(t, id, limit)
	if view.Ended() != queued || view.Counts["canceled"] == 0 {
		t.Errorf("%+v", view)
	}
}
