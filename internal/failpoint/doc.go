// Package failpoint lets a test kill this process, with SIGKILL, at a named step.
//
// It is in production code because the crash tables (producer/doc.go, worker/doc.go, aggregator/doc.go) make
// a promise for each step of a copy, and a promise about a crash between two lines can only be kept to
// with a crash between these two lines, in the program that users run: a random kill finds the wide gaps between
// steps and hardly ever the narrow ones, and a build of its own for tests would be another program. Each row of the
// tables that a crash can hit names its [Point]; the tests in integration/crash kill at every one.
//
// It is inactive unless [Arm] was called with a plan, which the binary does with the environment variable
// [Env] and with nothing that comes from the network; then a step costs one atomic load. There is no
// other effect than the death of the process: a failpoint changes no result and delays nothing.
package failpoint
