/* Inlines and thread-locals of DPDK that a foreign language cannot reach, as plain functions. */
#ifndef TURNPIKE_DPDK_SHIM_H
#define TURNPIKE_DPDK_SHIM_H

#include <rte_mbuf.h>
#include <rte_vect.h>

/* rte_errno and the lcore id are thread-locals. */
int tp_errno(void);
void tp_set_errno(int value);
unsigned int tp_lcore_id(void);

/* The pktmbuf fast paths are inline functions. */
struct rte_mbuf *tp_pktmbuf_alloc(struct rte_mempool *pool);
int tp_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count);
void tp_pktmbuf_free(struct rte_mbuf *mbuf);
void tp_pktmbuf_free_bulk(struct rte_mbuf **mbufs, unsigned int count);

/* The Toeplitz hash in software, also inline. */
uint32_t tp_softrss(uint32_t *tuple, uint32_t words, const uint8_t *key);

/* Sends DPDK's log to a callback, one call a message; 0 or -errno. */
int tp_log_to(void (*sink)(const char *text, size_t length));

#endif
