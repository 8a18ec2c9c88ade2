// The pages of signing in: without scripts, with a form where something is to be confirmed.
import { createHash } from 'node:crypto'
import type { FastifyReply } from 'fastify'

const style =
  ':root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:15vh auto 0;padding:0 1rem}' +
  'button{font:inherit;padding:.4rem 1rem}'
const styleHash = createHash('sha256').update(style).digest('base64')

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
const escape = (text: string): string => text.replace(/[&<>"']/g, (character) => escapes[character] ?? '')

export type Page = {
  status: number
  title: string
  /** paragraphs, as plain text */
  text: string[]
  /** the button of a form that is posted to the page's own address */
  button?: string
  /** a link: its path and its text */
  link?: [path: string, text: string]
  /** an origin to which the answer to the form may redirect */
  redirects?: string
}

export const sendPage = (reply: FastifyReply, { status, title, text, button, link, redirects }: Page): FastifyReply =>
  reply
    .status(status)
    .headers({
      'cache-control': 'no-store',
      // A form's Origin would be null under no-referrer.
      'referrer-policy': 'same-origin',
      'content-security-policy':
        `default-src 'none'; style-src 'sha256-${styleHash}'; form-action 'self'${redirects ? ` ${redirects}` : ''}; ` +
        "base-uri 'none'; frame-ancestors 'none'",
    })
    .type('text/html; charset=utf-8').send(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(title)} · Mission Deck</title>
<style>${style}</style>
<main>
<h1>${escape(title)}</h1>
${text.map((line) => `<p>${escape(line)}</p>\n`).join('')}${
    button ? `<form method="post"><button type="submit">${escape(button)}</button></form>\n` : ''
  }${link ? `<p><a href="${escape(link[0])}">${escape(link[1])}</a></p>\n` : ''}</main>
</html>
`)
