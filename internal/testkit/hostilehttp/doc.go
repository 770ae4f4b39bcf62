// Package hostilehttp is HTTP peers that do not keep the rules: servers that lie about lengths, ranges and states, hang, drip, flood,
// reset, redirect to where nobody may go, or fail at TLS, and receivers of uploads that do the like.
//
// Each [Behavior] has a name and says what must come of a copy that meets it: of one call of the driver, and of a whole item. The table
// is the expectation; tests run the real driver (storage/http) and the real program (integration/hostile) against it.
package hostilehttp
