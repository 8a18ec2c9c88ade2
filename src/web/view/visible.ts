// Makes characters that change the direction of text visible, in all text of the page. Set once for all elements, so that no name, title
// or result is missed.
import { Fragment, options, type ComponentChildren, type VNode } from 'preact'
import { visible } from '../format.ts'

const shown = (children: ComponentChildren): ComponentChildren => {
  if (typeof children === 'string') return visible(children)
  if (!Array.isArray(children)) return children
  const given: ComponentChildren[] = children
  let copy: ComponentChildren[] | undefined
  given.forEach((child, n) => {
    const now = shown(child)
    if (now !== child) (copy ??= [...given])[n] = now
  })
  return copy ?? given
}

export const showDirections = (): void => {
  const before = options.vnode
  options.vnode = (vnode: VNode) => {
    const { type, props } = vnode as VNode<{ children?: ComponentChildren }>
    if ((typeof type === 'string' || type === Fragment) && props.children != null) {
      const now = shown(props.children)
      if (now !== props.children) props.children = now
    }
    before?.(vnode)
  }
}
