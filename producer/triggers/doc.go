// Package triggers turns events into copies by rules, once, in order, and accounts for each.
//
// # What is guaranteed
//
// An event that was stored is decided on for each rule of its org, exactly once, however often processes die or compete meanwhile. Its outcome is a copy, or
// counted with its reason: it came before, a later version of the same object did, the rule wrote the object itself, or no valid copy can be made. A version
// of an object is copied once at most by a rule, and to one destination one copy runs at a time, in the order of the events; of an object's versions the
// newest one is last. That holds as long as decisions are remembered: for [Config.Memory], and for the last [MostRemembered] of an org. What lies beyond is
// copied again rather than missed.
//
// # The journal
//
// Each round of decisions of an org is one record of its journal, which names the copies, the batches that they are in, sealed, and up to where the events are
// dealt with. An append names the record that it follows on (the fence): of two processes that believe to lead one fails, forgets all and reads the journal
// again. All that decisions depend on, and all counts, follow from the journal. The name of a batch follows from its place in it, so that submitting it again
// changes nothing; and from a name of the journal's own, so that one that was lost and begun anew asks for no batch that is there already.
//
// Of a notification with many events, or for many rules, a record may decide on a part; it says so. An event whose destination is busy is parked: it stays in
// the stream, and each record lists those that are. Of the notifications behind it that are dealt with, some lie there as long; when they are many, they are
// removed one by one, so that one long copy does not fill the stream.
//
// # Crashes
//
//	After                                    In KV and streams                       What happens next
//	a notification is stored                 the event                               who leads decides on it
//	a round is decided on, in memory         as before                               it is decided on again, with the same outcome or that of newer rules
//	trigger_recorded                         the record; no batch                    who reads the journal submits all batches behind "submitted"
//	trigger_submitted                        the record; some batches                as above: those that are there are the same batches
//	all batches are accepted, nobody says so the record; all batches                 as above; the next record says it, at the latest in an idle second
//	trigger_dropped                          events are out of the stream            nothing: the journal is past them, or no rule was about them
//	trigger_summed                           a record with all counts, and old ones  the old ones are removed within a minute
//	the counts are not saved for views       the journal has them                    who reads the journal saves them
//	a sweep's end is decided on, not told    the record names the sweep as ended     who reads the journal tells
//
// An append whose answer is lost may have happened or not: the journal is read again.
//
// A batch that is not accepted, because the queue is full or the broker away, is tried again until it is; the other events of its org wait meanwhile, those
// of other orgs do not. What cannot be read is dropped, logged and counted by a metric; it holds up nothing.
package triggers
