package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// deliveryLog is how the notice of a batch's end was delivered.
type deliveryLog struct {
	URL      string    `json:"url"`
	State    string    `json:"state"`
	Delivery string    `json:"delivery"`
	Next     time.Time `json:"next_attempt_at"`
	Attempts []struct {
		Number  int               `json:"number"`
		Start   time.Time         `json:"start"`
		End     time.Time         `json:"end"`
		Status  int               `json:"http_status"`
		Failure *protocol.Failure `json:"failure"`
	} `json:"attempts"`
}

func (c *showCmd) showWebhook(ctx context.Context, env *environment, api *client) error {
	var raw json.RawMessage
	if err := api.get(ctx, batchPath(c.Batch, "webhook"), nil, &raw); err != nil {
		return err
	}
	if env.json {
		return printJSON(env, raw)
	}
	var told deliveryLog
	if err := json.Unmarshal(raw, &told); err != nil {
		return notPromised(err)
	}
	return told.write(env, time.Now())
}

// write tells the log to a person.
func (d *deliveryLog) write(env *environment, now time.Time) error {
	l := &lines{}
	l.field("webhook", d.URL)
	l.field("state", d.State)
	l.field("delivery", d.Delivery)
	for i := range d.Attempts {
		a := &d.Attempts[i]
		text := ago(a.Start, now) + ", " + span(a.End.Sub(a.Start)) + ": "
		switch {
		case a.Failure != nil:
			text += fmt.Sprintf("%s/%s: %s", a.Failure.Class, a.Failure.Code, a.Failure.Message)
		default:
			text += "answered " + strconv.Itoa(a.Status)
		}
		l.field("try "+strconv.Itoa(a.Number), text)
	}
	if !d.Next.IsZero() {
		l.field("next try", ago(d.Next, now))
	}
	return l.write(env.stdout)
}
