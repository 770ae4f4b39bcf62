package broker

import (
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// lateInbox is where the answer to a pull may still come that was given up. What it brings belongs to nobody: it is handed back, or it would
// wait for its AckWait to end. After that it may be another worker's, and a word about it would be taken for that one's.
type lateInbox struct {
	inbox *nats.Subscription
	asked time.Time
	epoch uint64 // of the connection; over another one nothing comes
}

// handBackLate hands back what came too late, and forgets the inboxes to which nothing comes any more that could be handed back.
func (in *Intake) handBackLate() {
	kept := in.late[:0]
	for _, l := range in.late {
		// The server counts AckWait from when it was asked, or later.
		if l.epoch != in.conn.Epoch() || time.Since(l.asked) >= in.conn.ackWait {
			_ = l.inbox.Unsubscribe() // fails only on a closed connection
			continue
		}
		for {
			msg, err := l.inbox.NextMsg(0)
			if err != nil {
				break
			}
			if strings.HasPrefix(msg.Reply, "$JS.ACK.") {
				_ = msg.Nak() // not sent, it comes again after AckWait: later, but it comes
			}
		}
		kept = append(kept, l)
	}
	clear(in.late[len(kept):])
	in.late = kept
}
