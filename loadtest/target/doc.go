// Package target makes the operations of a load test: on an S3 store, or through the fleet.
package target
