// Package powercut holds the tests that take the power away. A process that is killed leaves what it wrote in the page cache of the system; a
// machine without power leaves what was synced. So everything that a fleet keeps lies on file systems in image files here: while the fleet is
// frozen these are copied, which takes what has come to the disk and nothing else, and the fleet goes on from the copies.
//
// That needs loop devices, and therefore Linux and root. A disk that loses what it said it had stored, or stores it in another order, is not tried.
package powercut
