package producer

import (
	"cmp"
	"context"
	"slices"

	"github.com/copyfleet/copyfleet/protocol"
)

// maxDeadGroups bounds the groups that are told apart while a preview counts.
const maxDeadGroups = 1000

// previewView is what a redrive would take.
type previewView struct {
	Count      int         `json:"count"`
	Batches    int         `json:"batches"`
	More       bool        `json:"more"` // the count is of a part
	Groups     []deadGroup `json:"groups"`
	GroupsLeft int         `json:"groups_left,omitempty"` // dead letters that are in none of the groups
}

// deadGroup is how many dead letters failed in the same way.
type deadGroup struct {
	Class   protocol.Class `json:"class"`
	Code    string         `json:"code"`
	Host    string         `json:"host,omitempty"`
	Count   int            `json:"count"`
	Example string         `json:"example"` // id of one of them
	Message string         `json:"message"` // of the example
}

// preview counts what a redrive would take, in groups.
func (d *redriver) preview(ctx context.Context) (*previewView, error) {
	out := &previewView{Groups: []deadGroup{}}
	type kind struct {
		class      protocol.Class
		code, host string
	}
	groups := map[kind]*deadGroup{}
	count := func(now *snapshot, r *protocol.Receipt) {
		var f protocol.Failure
		if r.Failure != nil {
			f = *r.Failure
		}
		of := kind{f.Class, f.Code, f.Host}
		g := groups[of]
		if g == nil {
			if len(groups) == maxDeadGroups {
				out.GroupsLeft++
				return
			}
			g = &deadGroup{Class: f.Class, Code: f.Code, Host: f.Host, Example: letterID(now.record.Batch, r.Index), Message: f.Message}
			groups[of] = g
		}
		g.Count++
	}
	err := d.each(ctx, "", limitMaxItems, count, func(_ *snapshot, k *picked) bool {
		if n := k.ranges.count(); n > 0 {
			out.Count += n
			out.Batches++
		}
		return true
	})
	for _, g := range groups {
		out.Groups = append(out.Groups, *g)
	}
	slices.SortFunc(out.Groups, func(a, b deadGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Code, b.Code), cmp.Compare(a.Host, b.Host))
	})
	for len(out.Groups) > protocol.MaxGroups {
		last := len(out.Groups) - 1
		out.GroupsLeft += out.Groups[last].Count
		out.Groups = out.Groups[:last]
	}
	out.More = d.more
	return out, err
}
