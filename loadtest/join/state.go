package join

// state is how far a lease is, in the order in which it goes. doc.go says who moves it.
type state int

const (
	taken state = iota + 1
	opening
	opened
	preparing
	prepared
	running
	ended
	failed
	closing
)

var stateNames = map[state]string{
	taken: "taken", opening: "opening", opened: "open", preparing: "preparing", prepared: "prepared", running: "running", ended: "ended", failed: "failed",
	closing: "closing",
}

// String is the word for the state in logs and errors.
func (s state) String() string { return stateNames[s] }
