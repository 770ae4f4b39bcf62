package target

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/loadtest"
	"github.com/copyfleet/copyfleet/loadtest/workload"
	"github.com/copyfleet/copyfleet/protocol"
	"github.com/copyfleet/copyfleet/storage"
)

// copyFile is one copy of the copy call.
type copyFile struct {
	ID   string   `json:"id"`
	Src  location `json:"src"`
	Dest location `json:"dest"`
}

// copyAnswer is the answer of the copy call.
type copyAnswer struct {
	Results []struct {
		Success bool   `json:"success"`
		Error   string `json:"error"`
	} `json:"results"`
}

// headerBatch names the batch that a call made.
const headerBatch = "Copyfleet-Batch"

// call copies one object by the copy call, which waits for its end. Its answer says no more than whether it went well: of a copy that failed, and of each one
// where all are verified, the receipt is asked for afterwards, in time that does not count.
func (f *Fleet) call(ctx context.Context, op *workload.Op) loadtest.Result {
	org := f.org.Load()
	if org == nil {
		return f.faulted(storage.Errorf(storage.Invalid, "unknown_org", "copy", f.shown(), "the org of the API key is not known: Check finds out"))
	}
	file := copyFile{ID: strconv.FormatUint(op.N, 10)}
	file.Src, file.Dest = f.ends(op)
	body, err := json.Marshal(map[string]any{"files": []copyFile{file}})
	if err != nil {
		return f.faulted(err)
	}
	r := request{
		method: http.MethodPost, path: "/api/orgs/" + string(*org) + "/sandboxes/" + string(f.cfg.Sandbox) + "/file/copy",
		body: body, media: "application/json", key: f.another(),
	}
	var answer copyAnswer
	header, err := f.ask(ctx, &r, &answer)
	ended := time.Now()
	if err != nil {
		result := f.faulted(err)
		f.giveUp(ctx, err, &r, protocol.KeyedBatchID(*org, r.key))
		result.After = time.Since(ended)
		return result
	}
	if len(answer.Results) != 1 {
		return f.faulted(f.unknownAnswer(&r, "it has %d results for one copy", len(answer.Results)))
	}
	result := loadtest.Result{Host: f.host}
	if answer.Results[0].Success && !f.S3.cfg.Verify {
		return result
	}
	receipt, err := f.receipt(ctx, protocol.BatchID(header.Get(headerBatch)))
	switch {
	case err != nil:
		result = f.faulted(err)
		result.Fault.Message = brief("a copy's receipt cannot be had; its answer says: " + answer.Results[0].Error + ": " + result.Fault.Message)
	default:
		result.Fault = f.outcome(receipt, op.Object.Size, file.Dest.Key)
		if by := worker(receipt); by != "" {
			result.Host = by
		}
	}
	result.After = time.Since(ended)
	return result
}

// receipt asks for the receipt of the only item of a batch.
func (f *Fleet) receipt(ctx context.Context, batch protocol.BatchID) (*protocol.Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	r := request{method: http.MethodGet, path: batchPath(batch) + "/items/0"}
	if !batch.Valid() {
		return nil, f.unknownAnswer(&r, "it names no batch")
	}
	var receipt protocol.Receipt
	_, err := f.ask(ctx, &r, &receipt)
	return &receipt, err
}
