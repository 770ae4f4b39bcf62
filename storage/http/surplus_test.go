package httpstore

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/copyfleet/copyfleet/internal/testkit/hostilehttp"
	"github.com/copyfleet/copyfleet/storage"
)

// TestSurplusIsNotTheAnswerToTheNextRequest has a server send more than it announced, now and then all at once. Whoever asks next gets their
// own answer, whatever the surplus looks like.
func TestSurplusIsNotTheAnswerToTheNextRequest(t *testing.T) {
	t.Parallel()
	for name, surplus := range map[string]string{
		"bytes":     "more than was announced\n",
		"an answer": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const rounds = 500
			var connections atomic.Int64
			at := hostile(t, func(p *hostilehttp.Peer) {
				connections.Add(1)
				for {
					req := p.Whole()
					switch {
					case req.URL == nil:
						return
					case req.URL.Path == "/liar":
						p.Say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlong%s", surplus)
					default:
						p.Say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(req.URL.Path), req.URL.Path)
					}
				}
			})
			client := testClient(t, nil)
			for n := range rounds {
				if got, _, err := readAll(t, client.Get(at+"/liar", nil)); err != nil || got != "long" {
					t.Fatalf("%q, %v", got, err)
				}
				path := fmt.Sprintf("/honest-%d", n)
				if got, _, err := readAll(t, client.Get(at+path, nil)); err != nil || got != path {
					t.Fatalf("in round %d: %q, %v", n, got, err)
				}
			}
			// One for every liar would do. Without any use of a connection for a second request it would be two a round: the transport gives one up
			// as well when its writer is not scheduled for 50 ms.
			if n := connections.Load(); n > rounds+rounds/2 {
				t.Errorf("%d connections in %d rounds", n, rounds)
			}
		})
	}
}

// TestSurplusIsNoUploadsAnswer: an upload is not sent again, but what came before it was sent says nothing of it.
func TestSurplusIsNoUploadsAnswer(t *testing.T) {
	t.Parallel()
	var uploads atomic.Int64
	at := hostile(t, func(p *hostilehttp.Peer) {
		for {
			req := p.Whole()
			switch {
			case req.URL == nil:
				return
			case req.Method == "PUT":
				uploads.Add(1)
				p.Say("%s", hostilehttp.Answer("201 Created"))
			default:
				p.Say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlong%s", hostilehttp.Answer("200 OK"))
			}
		}
	})
	client := testClient(t, nil)
	var stored int64
	for range 200 {
		if _, _, err := readAll(t, client.Get(at, nil)); err != nil {
			t.Fatal(err)
		}
		got, err := client.Put(at, nil).Put(t.Context(), zeros(9))
		switch {
		case err != nil:
			failure{storage.Unavailable, "dest_closed", "", 0}.check(t, err)
		case got.Status != 201:
			t.Fatalf("the surplus counted as the answer: %+v", got)
		default:
			stored++
		}
	}
	if n := uploads.Load(); n != stored {
		t.Errorf("%d uploads came, %d succeeded", n, stored)
	}
}

// TestLateSurplusCostsNoAttempt has the surplus arrive when the next request has been sent.
func TestLateSurplusCostsNoAttempt(t *testing.T) {
	t.Parallel()
	var connections atomic.Int64
	at := hostile(t, func(p *hostilehttp.Peer) {
		first := connections.Add(1) == 1
		for n := 0; p.Request().URL != nil; n++ {
			if first && n > 0 {
				p.Say("what had been left\r\n\r\n")
			}
			p.Say("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nown")
		}
	})
	client := testClient(t, nil)
	for range 2 {
		if got, _, err := readAll(t, client.Get(at, nil)); err != nil || got != "own" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}
