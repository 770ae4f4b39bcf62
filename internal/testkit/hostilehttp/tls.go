package hostilehttp

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/copyfleet/copyfleet/storage"
)

// authority is an authority of our own and what it, and who pretends to be it, certified.
type authority struct {
	root                                   *x509.Certificate
	good, expired, early, other, unrelated tls.Certificate
}

// certificates makes them once.
var certificates = sync.OnceValue(func() *authority {
	key := newKey()
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "hostile authority"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	root = sign(root, root, key, key)
	leaf := func(from, until time.Duration, host net.IP) tls.Certificate {
		own := newKey()
		cert := &x509.Certificate{
			SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "peer"}, NotBefore: now.Add(from), NotAfter: now.Add(until),
			IPAddresses: []net.IP{host}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
		return tls.Certificate{Certificate: [][]byte{sign(cert, root, own, key).Raw}, PrivateKey: own}
	}
	here := net.IPv4(127, 0, 0, 1)
	own := newKey()
	self := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "nobody"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IPAddresses: []net.IP{here},
	}
	return &authority{
		root: root, good: leaf(-time.Hour, time.Hour, here), expired: leaf(-2*time.Hour, -time.Hour, here), early: leaf(time.Hour, 2*time.Hour, here),
		other:     leaf(-time.Hour, time.Hour, net.IPv4(192, 0, 2, 1)),
		unrelated: tls.Certificate{Certificate: [][]byte{sign(self, self, own, own).Raw}, PrivateKey: own},
	}
})

func newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func sign(cert, by *x509.Certificate, key, with *ecdsa.PrivateKey) *x509.Certificate {
	raw, err := x509.CreateCertificate(rand.Reader, cert, by, &key.PublicKey, with)
	if err != nil {
		panic(err)
	}
	parsed, err := x509.ParseCertificate(raw)
	if err != nil {
		panic(err)
	}
	return parsed
}

// Roots is the authority that the peers with TLS should be verified with.
func Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(certificates().root)
	return pool
}

// RootsPEM is [Roots] as a file of a system has it.
func RootsPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificates().root.Raw})
}

// secured lets script speak over TLS. What it closes is the connection below, without a word of TLS.
func secured(cert tls.Certificate, script func(p *Peer)) func(p *Peer) {
	return func(p *Peer) {
		conn := tls.Server(p.Conn, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
		if conn.Handshake() == nil {
			script(&Peer{Conn: conn, R: bufio.NewReader(conn), done: p.done})
		}
	}
}

// handshakes are peers whose TLS is none to rely on.
func handshakes() []Behavior {
	well := func(p *Peer) { p.Request(); p.Say("%sContent-Length: 10\r\n\r\n%s", ok, Content) }
	own := certificates()
	refused := Want{Class: storage.Invalid, Code: "source_tls", Message: "the server's certificate was not accepted"}
	failed := Want{Class: storage.Unavailable, Code: "source_tls", Message: "the TLS handshake failed"}
	plain := Want{Class: storage.Unavailable, Code: "source_tls", Message: "the server does not speak TLS"}
	silent := waits(Behavior{
		Name: "tls-silent", Want: Want{Class: storage.Timeout, Code: "source_tls_timeout", Message: "Network timeout: no TLS handshake within"},
		script: func(p *Peer) { p.Hang() },
	})
	all := []Behavior{
		{Name: "tls-good", Body: Content, script: secured(own.good, well)},
		{Name: "tls-until-close", Body: Content, Unsized: true, script: secured(own.good, func(p *Peer) {
			p.Request()
			p.Say("HTTP/1.0 200 OK\r\n\r\n%s", Content)
			p.Close() // the word of TLS is said
		})},
		{Name: "tls-expired", Want: refused, script: secured(own.expired, well)},
		{Name: "tls-not-yet-valid", Want: refused, script: secured(own.early, well)},
		{Name: "tls-wrong-host", Want: refused, script: secured(own.other, well)},
		{Name: "tls-self-signed", Want: refused, script: secured(own.unrelated, well)},
		{Name: "tls-plain", Want: plain, script: func(p *Peer) { p.Say("%s", Answer("400 Bad Request")); p.Linger() }},
		{Name: "tls-reset", Want: failed, script: func(p *Peer) { _, _ = p.R.ReadByte(); p.Reset() }},
		{Name: "tls-close", Want: failed, script: func(p *Peer) { _, _ = p.R.ReadByte() }},
		{Name: "tls-old", Want: failed, script: func(p *Peer) {
			old := &tls.Config{Certificates: []tls.Certificate{own.good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
			_ = tls.Server(p.Conn, old).Handshake()
		}},
		silent,
		// Who cuts the connection cannot forge the end of it: a body that ends with the connection needs the word of TLS for that.
		{Name: "tls-cut", Want: shortBody, script: secured(own.good, func(p *Peer) { p.Request(); p.Say("HTTP/1.0 200 OK\r\n\r\n%s", Content) })},
		{Name: "tls-cut-in-length", Want: shortBody, script: secured(own.good, func(p *Peer) { p.Request(); p.Say(ok + "Content-Length: 10\r\n\r\n1234") })},
		{Name: "tls-cut-in-chunk", Want: shortBody, script: secured(own.good, func(p *Peer) {
			p.Request()
			p.Say(ok + "Transfer-Encoding: chunked\r\n\r\na\r\n1234")
		})},
	}
	for i := range all {
		all[i].TLS = true
	}
	return all
}
