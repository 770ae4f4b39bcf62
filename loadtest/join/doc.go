// Package join makes one load test of many machines: load generators join over NATS, a coordinator starts them together and merges what they measured.
//
// # What goes over NATS
//
// Core NATS only: a load test is not durable. A roll call ([protocol.BenchRoll]) is answered by every generator; all else are questions of the coordinator to
// one generator ([protocol.BenchAsk]) and their answers, so that nothing is told that nobody asked for. Jobs and results travel compressed, in parts that fit
// into a message, with a digest; they are 256 MiB at most.
//
// Questions and answers are sealed with the fleet's sealing key, for jobs hold credentials and every client of a NATS account can overhear its subjects. What
// is not sealed for a generator has no answer, and what was said once cannot be said again by others: each lease has an id of its own, each question a higher
// number than the last. Roll calls are open: who hears them learns names and versions. Somebody who may publish to the subjects can keep generators from
// being found; that takes a NATS with users and TLS to prevent.
//
// # States of a generator
//
//	free ─take→ taken ─open→ opening → open ─prepare→ preparing → prepared ─run→ running → ended ─close→ closing → free
//
// The coordinator moves along the arrows that have a word, the generator along the others: when it is done, or to failed, with the error, from which only
// close leads away. A question that comes again, because its answer was lost, moves nothing. Stop ends what is under way: a run that is stopped has ended,
// with a partial result; what has not begun fails. Close is heard in every state. A generator has one lease at a time, which is the coordinator's that took
// it; no other moves it.
//
// # Losses
//
//	the coordinator, in any state   no word for [Silence]: the generator stops its load, forgets the job and the result, and is free again. The objects of
//	                                the run remain: the coordinator is who clears them.
//	a generator, before the run     the run does not begin: a load by fewer machines is not the one that was asked for.
//	a generator, during the run     no word for [Silence]: the others go on. The result is partial and names the machine; what it measured is lost with it.
//	a generator that is told to end its run stops, with a partial result, and it leaves when the coordinator has fetched that, or after [Silence].
//	the connection, for a while     nothing, if it is shorter than [Silence]; else each side has lost the other.
//	the coordinator's run, by a signal: all stop, and their partial results are fetched.
//
// # Clocks
//
// Machines need not agree on the time. All times in a result count from the generator's own start, by its monotonic clock. To start together, the coordinator
// tells each in how long to begin from when it hears so, which is the time until the common start less half the shortest round trip. How far apart they then
// began is measured the same way, to half a round trip, and stands in the result ([record.Run.Spread]).
package join
