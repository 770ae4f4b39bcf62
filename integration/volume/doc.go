// Package volume shows that batches of thousands of items are accepted whole, watched, stopped, repaired and told truly, through real
// processes that are killed meanwhile. Whatever happens, each accepted item has one final receipt, counts equal receipts, and what
// succeeded is at its destination byte by byte.
package volume
