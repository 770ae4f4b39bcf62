package producer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/internal/broker"
	"github.com/copyfleet/copyfleet/protocol"
)

// Limits of a plan.
const (
	maxPlanItems = 1000
	planLimit    = time.Minute
	planAtOnce   = 16                     // questions under way
	planMessage  = 512 << 10              // bytes of a question
	planAgain    = 250 * time.Millisecond // until workers that are not there, or have too much to answer, are asked again
	planWorkers  = 3 * time.Second        // how long it is waited for a worker: one that has just begun may not listen yet
)

var (
	// errPlanTooLarge says that a plan was asked for with too many items.
	errPlanTooLarge = errors.New("a plan takes 1000 items at most")
	// errPlanEmpty says that a plan was asked for without items.
	errPlanEmpty = errors.New("there is nothing to plan")
)

// planView is the answer of POST /v1/batches?plan=true.
type planView struct {
	Items   []planItemView  `json:"items"`
	Summary planSummaryView `json:"summary"`
}

type planItemView struct {
	Index    int                    `json:"index"`
	ID       string                 `json:"id,omitempty"`
	Src      planSrcView            `json:"src"`
	Dest     planDestView           `json:"dest"`
	Action   protocol.PlanAction    `json:"action"`
	Problems []protocol.PlanProblem `json:"problems"`
}

type planSrcView struct {
	Location string `json:"location"` // redacted
	protocol.PlannedSource
}

type planDestView struct {
	Location string `json:"location"` // redacted
	protocol.PlannedDest
}

// planSummaryView counts the items by action.
type planSummaryView struct {
	Total     int `json:"total"`
	Copy      int `json:"copy"`
	Overwrite int `json:"overwrite"`
	Fail      int `json:"fail"`
	Unknown   int `json:"unknown"` // there was no time to look
	// Skip and IfDifferent are shown of plans that have such items.
	Skip        int `json:"skip,omitempty"`
	IfDifferent int `json:"if_different,omitempty"`
	// Bytes is the size of what would be copied, without the UnknownSizes items that do not tell theirs.
	Bytes        int64 `json:"bytes"`
	UnknownSizes int   `json:"unknown_sizes"`
}

// planBatch answers for a validated request with what would become of its items. Nothing is accepted and nothing written: a worker
// of the pool looks. pool is asked for after the last item.
func (s *Server) planBatch(w http.ResponseWriter, r *http.Request, next func() (protocol.ManifestItem, error), pool func() string) error {
	items, err := gatherPlan(next)
	if err != nil {
		return err
	}
	view, err := s.pipeline.plan(r.Context(), principalOf(r).Org, pool(), items)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, view)
	return nil
}

// planRefusal is the answer for an error of a plan that is not the pipeline's or the body's.
func planRefusal(err error) *Problem {
	var p Problem
	switch {
	case errors.Is(err, errPlanTooLarge):
		p = newProblem(CodePlanTooLarge, "A plan takes "+strconv.Itoa(maxPlanItems)+" items at most; plan a part of the manifest.")
	case errors.Is(err, errPlanEmpty):
		p = newProblem(CodeInvalidRequest, "There must be one item at least.")
	case errors.Is(err, broker.ErrNobody):
		p = newProblem(CodeNoWorker, "No worker of the pool runs that could look; nothing was checked.")
		p.retryAfter = noWorkerRetry
	default:
		return nil
	}
	return &p
}

const noWorkerRetry = 5 // seconds

func gatherPlan(next func() (protocol.ManifestItem, error)) ([]protocol.ManifestItem, error) {
	var items []protocol.ManifestItem
	for {
		item, err := next()
		switch {
		case errors.Is(err, io.EOF) && len(items) == 0:
			return nil, errPlanEmpty
		case errors.Is(err, io.EOF):
			return items, nil
		case err != nil:
			return nil, err
		case len(items) == maxPlanItems:
			return nil, errPlanTooLarge
		}
		items = append(items, item)
	}
}

// plan asks the workers of a pool. It returns [broker.ErrNobody] if there are none.
func (p *Pipeline) plan(ctx context.Context, org protocol.OrgID, pool string, items []protocol.ManifestItem) (planView, error) {
	ctx, cancel := context.WithTimeout(ctx, planLimit)
	defer cancel()
	planned := make([]protocol.PlannedItem, len(items))
	slots := make(chan struct{}, planAtOnce)
	var mu sync.Mutex
	var failed error
	var asking sync.WaitGroup
	for first := 0; first < len(items); first += protocol.PlanPage {
		last := min(first+protocol.PlanPage, len(items))
		slots <- struct{}{} // the others end within the limit
		asking.Go(func() {
			defer func() { <-slots }()
			if err := p.planPart(ctx, org, pool, items[first:last], planned[first:last]); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = err
				cancel()
			}
		})
	}
	asking.Wait()
	if failed != nil {
		return planView{}, failed
	}
	return viewPlan(items, planned), nil
}

// planPart fills in what the workers say of some items. A part that is too large for a message is asked for in halves.
func (p *Pipeline) planPart(ctx context.Context, org protocol.OrgID, pool string, items []protocol.ManifestItem, planned []protocol.PlannedItem) error {
	q := protocol.PlanQuestion{Version: protocol.PlanVersion, Org: org, Batch: protocol.NewBatchID()}
	var err error
	if q.Sealed, err = p.sealer.SealPage(org, q.Batch, 0, items); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	if half := len(items) / 2; len(q.Sealed) > planMessage && half > 0 {
		if err := p.planPart(ctx, org, pool, items[:half], planned[:half]); err != nil {
			return err
		}
		return p.planPart(ctx, org, pool, items[half:], planned[half:])
	}
	answer, err := p.askPlan(ctx, pool, &q)
	switch {
	case errors.Is(err, broker.ErrNobody):
		return err
	case err != nil:
		answer.Failure = &protocol.Failure{Class: protocol.Timeout, Code: "plan_timeout", Message: "There was no time to look at this item"}
	case answer.Failure == nil && len(answer.Items) != len(items):
		answer.Failure = &protocol.Failure{Class: protocol.Internal, Code: "plan_unknown", Message: "The worker's answer is not one to the question"}
	}
	if answer.Failure == nil {
		copy(planned, answer.Items)
		return nil
	}
	for i := range planned {
		planned[i] = protocol.PlannedItem{
			Action: protocol.PlanUnknown, Problems: []protocol.PlanProblem{{Severity: protocol.PlanWarning, Failure: *answer.Failure}},
		}
	}
	return nil
}

// askPlan asks until a worker has time, or the plan has none left.
func (p *Pipeline) askPlan(ctx context.Context, pool string, q *protocol.PlanQuestion) (protocol.PlanAnswer, error) {
	began := time.Now()
	for {
		var answer protocol.PlanAnswer
		if deadline, ok := ctx.Deadline(); ok {
			q.Within = time.Until(deadline)
		}
		question, err := protocol.Encode(q)
		if err != nil {
			return answer, fmt.Errorf("plan: %w", err)
		}
		data, err := p.conn.AskPlan(ctx, pool, question)
		nobody := errors.Is(err, broker.ErrNobody)
		if err != nil && (!nobody || time.Since(began) > planWorkers) {
			return answer, fmt.Errorf("plan: %w", err)
		}
		if !nobody {
			if err := json.Unmarshal(data, &answer); err != nil {
				return answer, fmt.Errorf("plan: read the answer: %w", err)
			}
			if answer.Failure == nil || answer.Failure.Class != protocol.Throttled {
				return answer, nil
			}
		}
		pause := time.NewTimer(planAgain)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return answer, fmt.Errorf("plan: %w", context.Cause(ctx))
		}
	}
}

func viewPlan(items []protocol.ManifestItem, planned []protocol.PlannedItem) planView {
	view := planView{Items: make([]planItemView, len(items)), Summary: planSummaryView{Total: len(items)}}
	sum := &view.Summary
	for i := range items {
		found := &planned[i]
		if found.Problems == nil {
			found.Problems = []protocol.PlanProblem{}
		}
		view.Items[i] = planItemView{
			Index: i, ID: items[i].ID, Action: found.Action, Problems: found.Problems,
			Src:  planSrcView{items[i].Src.Redacted(), found.Src},
			Dest: planDestView{items[i].Dest.Redacted(), found.Dest},
		}
		switch found.Action {
		case protocol.PlanFail:
			sum.Fail++
			continue
		case protocol.PlanCopy:
			sum.Copy++
		case protocol.PlanOverwrite:
			sum.Overwrite++
		case protocol.PlanIfDifferent:
			sum.IfDifferent++
		case protocol.PlanSkip:
			sum.Skip++
			continue
		default:
			sum.Unknown++
			continue
		}
		if found.Src.Size == nil {
			sum.UnknownSizes++
		} else {
			sum.Bytes += *found.Src.Size
		}
	}
	return view
}
