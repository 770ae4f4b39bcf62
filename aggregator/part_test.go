package aggregator

import (
	"cmp"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/copyfleet/copyfleet/protocol"
)

// dumbPage looks at all states of the parts of one upload at once.
func dumbPage(upload string, states []protocol.PartState) protocol.PartPage {
	page := protocol.PartPage{Version: protocol.PartVersion, Upload: upload}
	of := map[int][]protocol.PartState{}
	for _, s := range states {
		of[s.Number] = append(of[s.Number], s)
	}
	for _, all := range of {
		page.Parts = append(page.Parts, dumbPart(all))
	}
	slices.SortFunc(page.Parts, func(a, b protocol.PartState) int { return cmp.Compare(a.Number, b.Number) })
	for i := range page.Parts {
		for j := i + 1; j < len(page.Parts); j++ {
			if page.Parts[j].Number != page.Parts[i].Number+j-i || page.Parts[j].Failure != nil || page.Parts[i].Failure != nil {
				break
			}
			if page.Parts[j].Chain != nil { // not cut yet: only those before i were
				page.Parts[i].Chain = nil
			}
		}
	}
	return page
}

func dumbPart(all []protocol.PartState) protocol.PartState {
	stored := slices.DeleteFunc(slices.Clone(all), func(s protocol.PartState) bool { return s.Failure != nil })
	twice := slices.ContainsFunc(all, func(s protocol.PartState) bool { return s.Twice })
	pick := stored
	if len(stored) == 0 {
		pick = all
	}
	best := slices.MaxFunc(pick, func(a, b protocol.PartState) int {
		a.Twice, b.Twice, a.Chain, b.Chain = false, false, nil, nil
		return compareStates(&a, &b)
	})
	best.Chain = nil
	for _, s := range stored {
		twice = twice || s.Worker != stored[0].Worker || s.ETag != stored[0].ETag || s.Checksum != stored[0].Checksum
		if slices.Compare(s.Chain, best.Chain) > 0 {
			best.Chain = s.Chain
		}
	}
	best.Twice = twice
	return best
}

func partReports(upload string) *rapid.Generator[protocol.PartReport] {
	return rapid.Custom(func(t *rapid.T) protocol.PartReport {
		s := protocol.PartState{
			Number: rapid.IntRange(1, 9).Draw(t, "number"), Size: 5, Upload: upload,
			Worker: rapid.SampledFrom([]string{"w1", "w2"}).Draw(t, "worker"), ETag: rapid.SampledFrom([]string{"", "e1"}).Draw(t, "etag"),
			Twice: rapid.IntRange(0, 9).Draw(t, "twice") == 0,
		}
		if rapid.Bool().Draw(t, "chained") {
			s.Chain = []byte{byte(s.Number)}
		}
		if rapid.IntRange(0, 3).Draw(t, "failed") == 0 {
			s.Failure = &protocol.Failure{Class: protocol.Timeout, Code: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "code")}
		}
		return protocol.PartReport{Epoch: rapid.IntRange(1, 3).Draw(t, "epoch"), State: s}
	})
}

func TestFoldOfPartsAgreesWithTheDumbOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		reports := rapid.SliceOfN(partReports("u"), 1, 40).Draw(t, "reports")
		states := make([]protocol.PartState, len(reports))
		for i := range reports {
			states[i] = news(&reports[i])
		}
		want := dumbPage("u", states)
		page := protocol.PartPage{Upload: "before", Parts: []protocol.PartState{{Number: 3}}}
		for _, s := range append(rapid.Permutation(states).Draw(t, "order"), rapid.SliceOf(rapid.SampledFrom(states)).Draw(t, "repeated")...) {
			before := protocol.PartPage{Version: page.Version, Upload: page.Upload, Parts: slices.Clone(page.Parts)}
			var changed bool
			page, changed = foldPart(page, s)
			if changed == gocmp.Equal(before, page) {
				t.Fatalf("changed is %v, but the page is %+v and was %+v", changed, page, before)
			}
		}
		if diff := gocmp.Diff(want, page); diff != "" {
			t.Fatalf("the fold differs from the dumb one (-dumb +fold):\n%s", diff)
		}
	})
}

func TestAPartThatWasStoredStaysSo(t *testing.T) {
	t.Parallel()
	stored := protocol.PartState{Number: 1, Size: 5, Upload: "u", Worker: "w1"}
	failed := protocol.PartState{Number: 1, Upload: "u", Worker: "w2", Epoch: 9, Failure: &protocol.Failure{Class: protocol.Timeout}}
	for _, order := range [][]protocol.PartState{{stored, failed}, {failed, stored}} {
		var page protocol.PartPage
		for _, s := range order {
			page, _ = foldPart(page, s)
		}
		if len(page.Parts) != 1 || page.Parts[0].Failure != nil || page.Parts[0].Worker != "w1" || page.Parts[0].Twice {
			t.Errorf("the page is %+v", page)
		}
	}
}

func TestOnlyAPartOfThePlanCounts(t *testing.T) {
	t.Parallel()
	plan := protocol.PartPlan{Epoch: 3, Upload: "u", Count: 7}
	failure := &protocol.Failure{Class: protocol.Timeout}
	for name, c := range map[string]struct {
		report protocol.PartReport
		want   bool
	}{
		"first":                 {protocol.PartReport{Epoch: 3, State: protocol.PartState{Number: 1, Upload: "u"}}, true},
		"last":                  {protocol.PartReport{Epoch: 3, State: protocol.PartState{Number: 7, Upload: "u"}}, true},
		"of an earlier epoch":   {protocol.PartReport{Epoch: 1, State: protocol.PartState{Number: 7, Upload: "u"}}, true},
		"failure":               {protocol.PartReport{Epoch: 3, State: protocol.PartState{Number: 7, Upload: "u", Failure: failure}}, true},
		"an earlier failure":    {protocol.PartReport{Epoch: 2, State: protocol.PartState{Number: 7, Upload: "u", Failure: failure}}, false},
		"of another upload":     {protocol.PartReport{Epoch: 3, State: protocol.PartState{Number: 7, Upload: "v"}}, false},
		"beyond the last":       {protocol.PartReport{Epoch: 3, State: protocol.PartState{Number: 8, Upload: "u"}}, false},
		"before the first":      {protocol.PartReport{Epoch: 3, State: protocol.PartState{Number: 0, Upload: "u"}}, false},
		"with a negative place": {protocol.PartReport{Epoch: 3, State: protocol.PartState{Number: -1, Upload: "u"}}, false},
	} {
		if got := admits(&plan, &c.report); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
