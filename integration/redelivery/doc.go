// Package redelivery holds the tests that say everything to a real fleet more than once: reports that come twice, late or in
// another order, and items whose acknowledgements were lost. Nothing may change by it and nothing be copied again.
package redelivery
