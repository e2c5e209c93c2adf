#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>

#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_thash.h>

#include "shim.h"

int tp_errno(void) { return rte_errno; }
void tp_set_errno(int value) { rte_errno = value; }
unsigned int tp_lcore_id(void) { return rte_lcore_id(); }

struct rte_mbuf *tp_pktmbuf_alloc(struct rte_mempool *pool) { return rte_pktmbuf_alloc(pool); }

int tp_pktmbuf_alloc_bulk(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

void tp_pktmbuf_free(struct rte_mbuf *mbuf) { rte_pktmbuf_free(mbuf); }

/* As rte_pktmbuf_free_bulk, which is not inline: runs of one pool go back with one put. */
void tp_pktmbuf_free_bulk(struct rte_mbuf **mbufs, unsigned int count)
{
	struct rte_mbuf *pending[64];
	unsigned int pending_count = 0;

	for (unsigned int i = 0; i < count; i++) {
		struct rte_mbuf *mbuf = mbufs[i];
		if (unlikely(mbuf->nb_segs != 1)) {
			rte_pktmbuf_free(mbuf);
			continue;
		}
		mbuf = rte_pktmbuf_prefree_seg(mbuf);
		if (unlikely(mbuf == NULL))
			continue;
		if (pending_count == RTE_DIM(pending) || (pending_count > 0 && pending[0]->pool != mbuf->pool)) {
			rte_mempool_put_bulk(pending[0]->pool, (void **)pending, pending_count);
			pending_count = 0;
		}
		pending[pending_count++] = mbuf;
	}
	if (pending_count > 0)
		rte_mempool_put_bulk(pending[0]->pool, (void **)pending, pending_count);
}

uint32_t tp_softrss(uint32_t *tuple, uint32_t words, const uint8_t *key) { return rte_softrss(tuple, words, key); }

static ssize_t write_log(void *cookie, const char *text, size_t length)
{
	void (*sink)(const char *, size_t);
	*(void **)&sink = cookie;
	sink(text, length);
	return (ssize_t)length;
}

int tp_log_to(void (*sink)(const char *text, size_t length))
{
	cookie_io_functions_t io = { .write = write_log };
	FILE *stream = fopencookie(*(void **)&sink, "w", io);
	if (stream == NULL)
		return -errno;
	setvbuf(stream, NULL, _IOLBF, 0);
	return rte_openlog_stream(stream);
}
