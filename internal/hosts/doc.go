// Package hosts decides when an item may use the hosts that it reads from and writes to: how many items are at one host at once, how many
// requests and bytes a second, and whether a host that failed is left alone for a while. It does no input and output and knows nothing
// of queues; it is told what became of each visit. Bytes a second are held by package storage/limited, which is put around what is read
// ([Visit.Rates]).
//
// A host, as a source or as a destination, is a gate with places. How many is found out (limiter.go): few at first, twice as many after
// each round that brought more throughput, fewer when the host says so or fails, and later more or fewer by trial. While items of other
// hosts want slots, no gate takes more than what they leave of them, but always its equal share.
//
// A visit at which nothing moves for long takes no place from others, until such visits have half of the slots. Items that go first
// ([Ask.First]) do not wait for the number to be found.
//
// Who waits in the way of others ([Table.Enter]) is sent away from a gate of which nothing has been heard yet.
//
// A gate closes when its host fails again and again, or says when to come back (breaker.go). After the rest one item probes it; what becomes of
// that decides for the others. If it tells nothing the next one probes, three times at most.
//
// Who finds no place waits for it in [Table.Enter] for [Config.Patience] at most. Who cannot have one by then is told when to
// come back ([LaterError]): as many items as the host takes are told the same moment.
//
// # Guarantees
//
//   - No more items are at a gate at once than [Config.Most], and one at a gate that is being probed.
//   - No item starts at a host that rests, except those that its first probe decides about, and those whose patience is over
//     ([Ask.Since]), which are told so.
//   - Every wait in here ends: by its context, or by patience.
//   - Memory is bounded by the hosts that items were at within ten minutes, and by those that rest.
package hosts
