package producer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/copyfleet/copyfleet/producer/triggers"
	"github.com/copyfleet/copyfleet/protocol"
)

// NewTriggerQueue returns the way in which rules have their copies made: batches like those of any caller, under what cfg lets the orgs do. It is there
// before the front is, since the rules are what a front is made of.
func NewTriggerQueue(cfg Config, pipeline *Pipeline, registry *Registry) triggers.Queue {
	return triggerQueue{pipeline: pipeline, tenancy: &tenancy{cfg: cfg.withDefaults(), registry: registry}}
}

type triggerQueue struct {
	pipeline *Pipeline
	tenancy  *tenancy
}

// Check implements triggers.Queue.
func (q triggerQueue) Check(_ context.Context, org protocol.OrgID, text []byte) (triggers.Checked, error) {
	c, item, err := q.tenancy.check(org, text)
	if err != nil {
		return triggers.Checked{}, err
	}
	if c.problems.total > 0 {
		p, first := c.problem(), c.problems.list[0]
		return triggers.Checked{}, &triggers.Refusal{Code: first.Code, Message: p.Message}
	}
	return triggers.Checked{Item: item, Pool: c.poolOr(protocol.DefaultPool), Dest: identity(&item.Dest)}, nil
}

// check holds an item that a rule made to what POST /v1/batches asks of one. What is wrong with it is in the check. The error is a [*triggers.Refusal] of
// what is no JSON.
func (t *tenancy) check(org protocol.OrgID, text []byte) (*itemCheck, protocol.ManifestItem, error) {
	if len(text) > maxLine {
		return nil, protocol.ManifestItem{}, &triggers.Refusal{Code: faultTooLong, Message: "An item may have " + itoa(maxLine) + " bytes at most."}
	}
	d := newDecoder(text)
	v, err := d.value(itemLevels)
	if err == nil {
		err = d.end()
	}
	if err != nil {
		path, at, reason := syntaxFault(err)
		message := path + ": The item is not valid JSON at " + at + " of it: " + reason + "."
		return nil, protocol.ManifestItem{}, &triggers.Refusal{Code: "syntax", Message: message}
	}
	budget := &share{budget: newBudget(smallUpload, smallUpload), org: org}
	defer budget.release()
	c := newItemCheck(t, org, budget)
	if v.get("receipt").kind != jsontext.KindInvalid { // a row of a report may have one; a rule is none
		c.problems.add("/receipt", faultUnknown, "There is no such member here.")
	}
	item := c.item(v, "")
	return c, item, nil
}

// identity tells a destination from all others of its org, without secrets. The fields of a form are secrets but for the key, under which a
// bucket puts what is posted to one URL.
func identity(dest *protocol.Location) string {
	switch dest.Type {
	case protocol.Object:
		return "s3://" + dest.Bucket + "/" + dest.Key
	case protocol.SandboxFile:
		return "sandbox:" + string(dest.Sandbox) + dest.Path
	case protocol.HTTPPostForm:
		return protocol.RedactURL(dest.URL) + "#" + dest.Form["key"]
	default:
		return protocol.RedactURL(dest.URL)
	}
}

// Granted implements triggers.Queue.
func (q triggerQueue) Granted(org protocol.OrgID, bucket, prefix string) bool {
	return q.tenancy.grantsOf(org).cover(bucket, prefix)
}

// Submit implements triggers.Queue.
func (q triggerQueue) Submit(ctx context.Context, b triggers.Batch) error {
	o := order{
		org: b.Org, batch: b.ID, keyed: true, rule: b.Rule, ruleVersion: b.Version,
		terms: terms{
			lane: b.Options.Lane, pool: b.Pool, label: b.Options.Label, options: protocol.Options{Attempts: b.Options.Attempts},
			// The batch follows from the rule and its place in the journal, so that it alone says what is asked for: another version of this
			// program may render the items in another way, and means the same batch still.
			request: sha256.Sum256([]byte("rule\x00" + string(b.Org) + "\x00" + string(b.ID))),
		},
		prepare: func(ctx context.Context) error { return q.makeSandboxes(ctx, &b) },
	}
	if o.lane == "" {
		o.lane = protocol.Bulk
	}
	if o.label == "" {
		o.label = ruleLabel(b.Rule)
	}
	rest := b.Items
	_, err := q.pipeline.acceptItems(ctx, o, func() (protocol.ManifestItem, error) {
		if len(rest) == 0 {
			return protocol.ManifestItem{}, io.EOF
		}
		item := rest[0]
		rest = rest[1:]
		return item, nil
	})
	if err != nil {
		return fmt.Errorf("submit a batch of rule %s: %w", b.Rule, err)
	}
	return nil
}

// ruleLabel is the label of the batches of a rule that gives them none.
func ruleLabel(rule string) string { return "rule " + rule }

// makeSandboxes lets the unknown sandboxes of a batch come into being, as for a call. What was unregistered since the items were checked is
// missed by the worker, as it is for batches that wait in the queue.
func (q triggerQueue) makeSandboxes(ctx context.Context, b *triggers.Batch) error {
	if !q.tenancy.cfg.AutoSandboxes {
		return nil
	}
	seen := map[protocol.SandboxID]bool{}
	for i := range b.Items {
		for _, loc := range [2]*protocol.Location{&b.Items[i].Src, &b.Items[i].Dest} {
			if loc.Type != protocol.SandboxFile || seen[loc.Sandbox] {
				continue
			}
			seen[loc.Sandbox] = true
			if _, err := q.tenancy.registry.EnsureSandbox(ctx, b.Org, loc.Sandbox); err != nil {
				return err
			}
		}
	}
	return nil
}

// Ended implements triggers.Queue.
func (q triggerQueue) Ended(ctx context.Context, org protocol.OrgID, batch protocol.BatchID, index int) (bool, error) {
	// The summary last: an end that is in it outweighs what the record says.
	record, found, err := q.pipeline.acceptance(ctx, org, batch)
	if err != nil {
		return false, err
	}
	summary, told, err := q.pipeline.summary(ctx, org, batch)
	switch {
	case err != nil:
		return false, err
	case !found, !told && record.State == protocol.AcceptAbandoned, told && summary.State.Final():
		return true, nil
	case !told:
		return false, nil
	}
	receipts, err := q.pipeline.receipts(ctx, &record, &summary, index, 1)
	if err != nil {
		return false, err
	}
	if len(receipts) == 0 {
		return false, fmt.Errorf("read the outcome of item %d of %s: %w", index, batch, errNoSuchItem)
	}
	return receipts[0].State.Final(), nil
}

// errNoSuchItem says that a batch has fewer items.
var errNoSuchItem = errors.New("the batch has no such item")
