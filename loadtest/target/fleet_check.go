package target

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"

	"github.com/copyfleet/copyfleet/loadtest/workload"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// probe is the object that a [Fleet.Check] has the fleet look at. No load has so many objects.
var probe = workload.Op{N: math.MaxUint64, Kind: workload.Put, Object: workload.Object{Number: math.MaxUint64, Size: 1}}

// planView is what is looked at of a plan.
type planView struct {
	Items []struct {
		Src      protocol.PlannedSource `json:"src"`
		Action   protocol.PlanAction    `json:"action"`
		Problems []protocol.PlanProblem `json:"problems"`
	} `json:"items"`
}

// Check tells whether the fleet can make copies: its API answers and knows the key, the org may use the bucket, a worker runs, and the store that it sees
// is the one of the load. For that it writes an object of one byte, has a worker plan to copy it, and removes it. Nothing is copied. It registers the sandbox
// of waiting calls, which stays. Its error is a *[storage.Error] with a hint.
//
// It is called before the first copy.
func (f *Fleet) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*answerTime) // a plan may take a minute
	defer cancel()
	if err := f.register(ctx); err != nil {
		return err
	}
	key := f.Key(probe.Object)
	if result := f.S3.Do(ctx, &probe); result.Fault != nil {
		return &storage.Error{
			Class: classNamed(result.Fault.Class), Code: result.Fault.Code, Op: "check", Subject: "s3://" + f.S3.cfg.Bucket + "/" + key,
			Message: result.Fault.Message, Hint: cmp.Or(result.Fault.Hint, "The load writes its sources itself, with the keys given."),
		}
	}
	defer func() {
		clean, done := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer done()
		_ = f.hosts[0].Delete(clean, f.S3.cfg.Bucket, key) // what stays is removed with all else
	}()
	return f.plan(ctx)
}

// register finds out whether the API answers and knows the key, and the org where that is told, and makes the sandbox of waiting calls known.
func (f *Fleet) register(ctx context.Context) error {
	if f.cfg.Batch > 1 {
		var list struct {
			Items []struct {
				Org protocol.OrgID `json:"org"`
			} `json:"items"`
		}
		_, err := f.ask(ctx, &request{method: http.MethodGet, path: batchesPath + "?limit=1"}, &list)
		if err == nil && len(list.Items) > 0 {
			f.belongs(list.Items[0].Org)
		}
		return err
	}
	var sandbox struct {
		Org protocol.OrgID `json:"org"`
	}
	r := request{method: http.MethodPut, path: "/v1/sandboxes/" + string(f.cfg.Sandbox)}
	if _, err := f.ask(ctx, &r, &sandbox); err != nil {
		return err
	}
	if !f.belongs(sandbox.Org) {
		return f.unknownAnswer(&r, "it names no org")
	}
	return nil
}

// belongs notes the org that the key is of, as the API tells it; false: it is none.
func (f *Fleet) belongs(org protocol.OrgID) bool {
	if !protocol.ValidID(string(org)) {
		return false
	}
	f.org.CompareAndSwap(nil, &org)
	return true
}

// plan has a worker look at the copy of the probe.
func (f *Fleet) plan(ctx context.Context) error {
	item := manifestItem{copyFile: copyFile{ID: "probe"}, Size: probe.Object.Size, Conflict: protocol.Overwrite}
	item.Src, item.Dest = f.ends(&probe)
	body, err := json.Marshal(&item)
	if err != nil {
		return fmt.Errorf("check the fleet: %w", err)
	}
	r := request{method: http.MethodPost, path: batchesPath + "?plan=true", body: body, media: "application/x-ndjson"}
	var view planView
	if _, err := f.ask(ctx, &r, &view); err != nil {
		return err
	}
	if len(view.Items) != 1 {
		return f.unknownAnswer(&r, "it has %d items of a plan of one", len(view.Items))
	}
	found := &view.Items[0]
	if found.Action == protocol.PlanCopy || found.Action == protocol.PlanOverwrite {
		return nil
	}
	e := storage.Errorf(storage.Unavailable, "cannot_copy", "", "", "a worker of the fleet cannot tell whether it could copy there")
	for _, p := range found.Problems {
		if p.Severity != protocol.PlanError && found.Action == protocol.PlanFail {
			continue
		}
		e = storage.Errorf(classNamed(string(p.Class)), brief(p.Code), "", "", "a worker of the fleet could not copy from %s to %s: %s",
			"s3://"+item.Src.Bucket+"/"+item.Src.Key, "s3://"+item.Dest.Bucket+"/"+item.Dest.Key, brief(p.Message))
		break
	}
	e.Status = http.StatusOK
	e.Hint = "The workers' own S3 endpoint (--s3-endpoint, --s3-access-key) has to be the store of this load, and may read and write the bucket."
	return f.failed(&r, e)
}
