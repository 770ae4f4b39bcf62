package events

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/mixtest"
	"github.com/copyfleet/copyfleet/producer/triggers"
	"github.com/copyfleet/copyfleet/protocol"
)

// toSandbox is a rule that copies the objects of a bucket into the sandbox, below a directory of its name. The id of an item tells the version of
// the object that it was made of.
func (f *fleet) toSandbox(name, bucket string) string {
	return fmt.Sprintf(`name: %[1]s
match: {source: s3, bucket: %[2]s}
copy:
  id: "{{key}} {{etag}}"
  src: {type: objectLocation, bucket: "{{bucket}}", key: "{{key}}"}
  dest: {type: sandboxFileLocation, sandbox: %[3]s, path: "/%[1]s/{{key}}"}
`, name, bucket, f.Sandbox)
}

// toBucket is a rule that copies the objects below a prefix of a bucket to another place.
func toBucket(name, bucket, prefix, toBucket, toPrefix string) string {
	return fmt.Sprintf(`name: %s
match: {source: s3, bucket: %s, prefix: %q}
copy:
  id: "{{key}} {{etag}}"
  src: {type: objectLocation, bucket: "{{bucket}}", key: "{{key}}"}
  dest: {type: objectLocation, bucket: %s, key: "%s{{key.base}}"}
`, name, bucket, prefix, toBucket, toPrefix)
}

// apply stores rules or fails the test.
func (f *fleet) apply(t *testing.T, documents ...string) []triggers.Applied {
	t.Helper()
	answer := f.send(t, f.API, "/v1/rules", map[string]string{"Content-Type": "application/yaml"}, strings.Join(documents, "---\n"))
	if answer.Status != http.StatusOK {
		t.Fatalf("the rules: status %d: %s", answer.Status, answer.Body)
	}
	var made struct {
		Rules []triggers.Applied `json:"rules"`
	}
	if err := json.Unmarshal(answer.Body, &made); err != nil || len(made.Rules) != len(documents) {
		t.Fatalf("%d rules were applied: %v: %s", len(documents), err, answer.Body)
	}
	return made.Rules
}

// send posts a body as it is, and returns the answer or fails the test.
func (f *fleet) send(t *testing.T, api mixtest.API, path string, header map[string]string, body string) mixtest.Answer {
	t.Helper()
	answer, err := post(t.Context(), api, path, header, body)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// post posts a body as it is. The connection is not used again.
func post(ctx context.Context, api mixtest.API, path string, header map[string]string, body string) (mixtest.Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, api.URL+path, strings.NewReader(body))
	if err != nil {
		return mixtest.Answer{}, err
	}
	req.Close = true
	req.Header.Set("Authorization", "Bearer "+api.Key)
	for name, value := range header {
		req.Header.Set(name, value)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return mixtest.Answer{}, err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	return mixtest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: said}, err
}

// view is a rule as the API shows it.
func (f *fleet) view(ctx context.Context, rule string) (triggers.View, error) {
	var v triggers.View
	err := f.API.Get(ctx, "/v1/rules/"+rule, &v)
	return v, err
}

// counts waits until the counts of a rule are as wanted, and nothing of it waits.
func (f *fleet) counts(t *testing.T, rule string, wanted func(triggers.Counts) bool) triggers.View {
	t.Helper()
	var v triggers.View
	var err error
	if !mixtest.Until(comes, func() bool {
		v, err = f.view(t.Context(), rule)
		return err == nil && v.Counts.Waiting == 0 && wanted(v.Counts)
	}) {
		t.Fatalf("the rule %s has come to %+v, %v within %s; problems: %+v", rule, v.Counts, err, comes, v.Problems)
	}
	return v
}

// batch is a batch in the list.
type batch struct {
	ID      string              `json:"id"`
	State   protocol.BatchState `json:"state"`
	Rule    string              `json:"rule"`
	Version int                 `json:"rule_version"`
	Label   string              `json:"label"`
	Total   int                 `json:"total"`
}

// batches are those of a rule.
func (f *fleet) batches(ctx context.Context, rule string) ([]batch, error) {
	var all []batch
	for cursor, pages := "", 0; pages < 1000; pages++ {
		var page struct {
			Items []batch `json:"items"`
			Next  string  `json:"next_cursor"`
		}
		if err := f.API.Get(ctx, "/v1/batches?rule="+url.QueryEscape(rule)+"&cursor="+url.QueryEscape(cursor), &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if page.Next == "" {
			return all, nil
		}
		cursor = page.Next
	}
	return nil, fmt.Errorf("the list of the batches of %s has no last page", rule)
}

// copied waits until the rule has asked for n copies and all have their outcome, and returns their receipts by the items' ids. Each must have
// succeeded, and none may be there twice.
func (f *fleet) copied(t *testing.T, rule string, n int) map[string]protocol.Receipt {
	t.Helper()
	return f.copiedBut(t, rule, n, func(string) bool { return false })
}

// copiedBut is [fleet.copied] where some copies may be there more than once, which then count once.
func (f *fleet) copiedBut(t *testing.T, rule string, n int, again func(id string) bool) map[string]protocol.Receipt {
	t.Helper()
	var receipts []protocol.Receipt
	var a asked
	var err error
	made := func() int {
		n, seen := 0, map[string]bool{}
		for i := range receipts {
			if id := receipts[i].ID; !seen[id] || !again(id) {
				seen[id] = true
				n++
			}
		}
		return n
	}
	if !mixtest.Until(comes, func() bool {
		if a, err = f.asked(t.Context(), rule); err != nil || a.total < n || len(a.ended) < len(a.batches) {
			return false
		}
		receipts, err = f.receipts(t.Context(), a.ended)
		return err == nil && len(receipts) == a.total && made() >= n
	}) {
		v, _ := f.view(t.Context(), rule)
		t.Fatalf("of %d copies for %s %d were asked for and %d of %d batches have ended within %s: %v; counts %+v; problems %+v", n, rule, a.total, len(a.ended),
			len(a.batches), comes, err, v.Counts, v.Problems)
	}
	byID := map[string]protocol.Receipt{}
	for i := range receipts {
		r := &receipts[i]
		if r.State != protocol.ItemSucceeded {
			t.Errorf("the copy %.200q: %s, %+v", r.ID, r.State, r.Failure)
		}
		if _, twice := byID[r.ID]; twice && !again(r.ID) {
			t.Errorf("%.200q was copied twice", r.ID)
		}
		byID[r.ID] = *r
	}
	if made() != n {
		t.Errorf("%d copies were made for %s, must be %d", made(), rule, n)
	}
	return byID
}

// asked are the copies that a rule has asked for.
type asked struct {
	batches []batch
	ended   []batch
	total   int // items
}

func (f *fleet) asked(ctx context.Context, rule string) (asked, error) {
	batches, err := f.batches(ctx, rule)
	if err != nil {
		return asked{}, err
	}
	a := asked{batches: batches}
	for _, b := range batches {
		if b.Rule != rule || b.Version < 1 || !strings.Contains(b.Label, rule) {
			return asked{}, fmt.Errorf("the batch %+v is in the list of %s", b, rule)
		}
		a.total += b.Total
		if b.State.Final() {
			a.ended = append(a.ended, b)
		}
	}
	return a, nil
}

// receipts are those of batches.
func (f *fleet) receipts(ctx context.Context, batches []batch) (all []protocol.Receipt, err error) {
	for _, b := range batches {
		receipts, err := f.API.Receipts(ctx, b.ID)
		if err != nil {
			return nil, err
		}
		all = append(all, receipts...)
	}
	return all, nil
}
