package events

import "testing"

// TestOnOneFleet has the rules of many tests in one org, each on buckets of its own: events of all of them come at once.
func TestOnOneFleet(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for name, test := range map[string]func(*testing.T, *fleet){
		"repeated": repeated, "any order": laterVersionWins, "a version waits": laterVersionWaits, "odd keys": keysArrive,
		"triggers itself": triggersItself, "trigger each other": triggerEachOther, "too many hops": tooManyHops,
		"CloudEvents": cloudEvents, "malformed": malformed, "expensive": expensive, "escaping": escaping, "rule files": ruleFiles, "changes": changes,
		"overwritten": overwritten, "in parts": inParts, "connecting": connecting, "deletions": deletions, "tenants": tenants, "trying": trying, "roles": roles,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, f)
		})
	}
}
