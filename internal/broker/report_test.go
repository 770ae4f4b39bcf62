package broker_test

import (
	"fmt"
	"testing"
	"time"
)

func TestClosedReaderGivesBackWhatNobodyTook(t *testing.T) {
	t.Parallel()
	conn := connectWaiting(t, 8*time.Minute)
	const bundles = 20
	for i := range bundles {
		if err := conn.PublishReports(t.Context(), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	first, err := conn.Reports(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	taken := <-first.Bundles() // so that the others are on their way or here
	if err := taken.Done(); err != nil {
		t.Fatal(err)
	}
	first.Close()

	second, err := conn.Reports(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	limit := time.NewTimer(conn.AckWait() / 2) // after AckWait they would come whatever the first one did
	defer limit.Stop()
	for i := range bundles - 1 {
		select {
		case <-second.Bundles():
		case <-limit.C:
			t.Fatalf("%d of %d bundles came to the second reader", i, bundles-1)
		}
	}
}
