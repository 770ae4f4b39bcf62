package producer

import (
	"slices"
	"strings"

	"github.com/copyfleet/copyfleet/producer/rules"
	"github.com/copyfleet/copyfleet/protocol"
)

// rules reads a file of rules and holds them to what the API asks for beyond their form, so that a rule of which no copy can be valid is refused when it is
// applied, with its line, and not with each event.
func (t *tenancy) rules(org protocol.OrgID, file []byte) ([]*rules.Rule, []rules.Problem) {
	list, wrong := rules.Parse(file)
	for _, rule := range list {
		wrong = append(wrong, t.sampleFaults(org, rule)...)
	}
	if len(wrong) > 0 {
		return nil, wrong
	}
	return list, nil
}

var (
	// passingFaults are those that the operator mends without the rule, which may be applied before: they are told with each event.
	passingFaults = []string{faultNotGranted, faultNoSandbox, faultMixedPools}
	// valueFaults depend on a value: one that is made up tells nothing of others. Whether a copy writes onto itself was tried with two.
	valueFaults = []string{faultTooLong, faultDigest, faultSame}
)

// mendable reports whether another value, of an event or of the operator, could mend a fault of the sample of a rule.
func mendable(rule *rules.Rule, field, code string) bool {
	coding := code == faultForbidden && strings.HasSuffix(strings.ToLower(field), ".accept-encoding") // all others go by their names
	return slices.Contains(passingFaults, code) || (coding || slices.Contains(valueFaults, code)) && !rule.Settled(field)
}

// sampleFaults are those that every copy of a rule has, checked as an item of POST /v1/batches.
func (t *tenancy) sampleFaults(org protocol.OrgID, rule *rules.Rule) (wrong []rules.Problem) {
	sample, err := rule.Sample()
	if err != nil {
		return []rules.Problem{rule.Problem("copy", "No event can make this valid.")} // rules.Parse has rendered it
	}
	c, _, err := t.check(org, sample)
	if err != nil {
		return []rules.Problem{rule.Problem("copy", "No event can make this a valid item of JSON.")}
	}
	for _, fault := range c.problems.list {
		field := "copy" + memberNames.Replace(fault.Pointer)
		if !mendable(rule, field, fault.Code) {
			wrong = append(wrong, rule.Problem(field, fault.Message))
		}
	}
	return wrong
}

// memberNames turns a JSON pointer into the name of a field.
var memberNames = strings.NewReplacer("/", ".", "~1", "/", "~0", "~")
