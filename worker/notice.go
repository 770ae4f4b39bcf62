package worker

import (
	"time"

	"github.com/copyfleet/copyfleet/protocol"
)

// notice is the body of a webhook. It is part of the contract: members are added, never changed.
type notice struct {
	Type  string      `json:"type"`
	Batch noticeBatch `json:"batch"`
}

const noticeEnded = "batch.ended"

type noticeBatch struct {
	ID          protocol.BatchID      `json:"id"`
	Org         protocol.OrgID        `json:"org"`
	Label       string                `json:"label,omitempty"`
	State       protocol.BatchState   `json:"state"`
	Reason      string                `json:"reason,omitempty"`
	Total       int                   `json:"total"`
	Counts      noticeCounts          `json:"counts"`
	Bytes       int64                 `json:"bytes"`
	CreatedAt   time.Time             `json:"created_at"`
	StartedAt   *time.Time            `json:"started_at,omitempty"`
	EndedAt     *time.Time            `json:"ended_at,omitempty"`
	ErrorGroups []protocol.ErrorGroup `json:"error_groups"`
}

// noticeCounts are the items by state; they add up to the total.
type noticeCounts struct {
	Succeeded int `json:"succeeded"`
	Failed    int `json:"failed"`
	Canceled  int `json:"canceled"`
	Skipped   int `json:"skipped"`
}

// noticeOf is what is told of a batch. It is the same in every attempt: the batch has ended.
func noticeOf(record *protocol.Acceptance, summary *protocol.Summary) notice {
	n := notice{Type: noticeEnded, Batch: noticeBatch{
		ID: record.Batch, Org: record.Org, Label: record.Label, State: summary.State, Reason: summary.Reason,
		Total: summary.Total, Bytes: summary.Tally.Bytes, CreatedAt: record.Created,
		StartedAt: told(summary.Started), EndedAt: told(summary.Ended), ErrorGroups: summary.Groups,
		Counts: noticeCounts{
			Succeeded: summary.Tally.Succeeded, Failed: summary.Tally.Failed,
			Canceled: summary.Tally.Canceled, Skipped: summary.Tally.Skipped,
		},
	}}
	if n.Batch.ErrorGroups == nil {
		n.Batch.ErrorGroups = []protocol.ErrorGroup{}
	}
	return n
}

func told(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
