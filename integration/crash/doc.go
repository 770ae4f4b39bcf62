// Package crash holds the tests that kill processes of a real fleet: at every failpoint of the crash tables, at random
// moments, and by the queue or the clock. After each crash what is left must come to exactly one outcome an item, with
// the bytes that its receipt tells, and with nothing half-done seen at any time.
package crash
