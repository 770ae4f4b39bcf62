package aggregator

import (
	"cmp"
	"slices"

	"github.com/copyfleet/copyfleet/protocol"
)

// cause is what the failures of a group have in common.
type cause struct {
	class protocol.Class
	code  string
	host  string
}

func causeOf(g *protocol.ErrorGroup) cause { return cause{g.Class, g.Code, g.Host} }

// group counts the failed items of a page by cause. The example is the first of them. Nil: none failed.
func group(page []protocol.Receipt) map[cause]protocol.ErrorGroup {
	var groups map[cause]protocol.ErrorGroup
	for i := range page {
		r := &page[i]
		if r.State != protocol.ItemFailed || r.Failure == nil {
			continue
		}
		if groups == nil {
			groups = map[cause]protocol.ErrorGroup{}
		}
		key := cause{r.Failure.Class, r.Failure.Code, r.Failure.Host}
		g, known := groups[key]
		if !known {
			g = protocol.ErrorGroup{Class: key.class, Code: key.code, Host: key.host, Example: r.Index, Message: r.Failure.Message}
		}
		g.Count++
		groups[key] = g
	}
	return groups
}

// regroup takes the groups of an old page out of those of a batch and puts those of the new one in. It keeps at most
// [protocol.MaxGroups], those that came first: an item whose cause finds no place is in no group, now and later, so
// that each count stays exact. The largest group stands first.
func regroup(groups []protocol.ErrorGroup, before, after map[cause]protocol.ErrorGroup) []protocol.ErrorGroup {
	if len(after) == 0 && len(before) == 0 {
		return groups
	}
	var added []protocol.ErrorGroup
	for key, g := range after {
		g.Count -= before[key].Count
		if g.Count == 0 {
			continue
		}
		if i := slices.IndexFunc(groups, func(old protocol.ErrorGroup) bool { return causeOf(&old) == key }); i >= 0 {
			groups[i].Count += g.Count
		} else if before[key].Count == 0 {
			added = append(added, g)
		}
	}
	slices.SortFunc(added, byExample)
	groups = append(groups, added[:min(len(added), protocol.MaxGroups-len(groups))]...)
	slices.SortFunc(groups, func(a, b protocol.ErrorGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), byExample(a, b))
	})
	return groups
}

func byExample(a, b protocol.ErrorGroup) int { return cmp.Compare(a.Example, b.Example) }

// ungrouped is how many failed items are in no group.
func ungrouped(s *protocol.Summary) int {
	left := s.Tally.Failed
	for i := range s.Groups {
		left -= s.Groups[i].Count
	}
	return left
}
